"""polyfleet."""
