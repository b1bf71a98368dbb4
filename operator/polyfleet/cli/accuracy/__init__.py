"""`polyfleet accuracy`: whether two endpoints answer alike, with or without a cluster."""
