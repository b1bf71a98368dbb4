"""`polyfleet scaler`: objects of another scaler that follows polyfleet's number."""
