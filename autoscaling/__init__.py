"""The elastic autoscaler: from measured load to demand in work per second."""
