"""`polyfleet simulate`: autoscaler and placer over time, on a fleet as it stands and a trace of requests."""
