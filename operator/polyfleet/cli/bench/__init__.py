"""`polyfleet bench`: measures an endpoint, or learns from live traffic, and writes a throughput entry."""
