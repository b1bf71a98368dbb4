"""A whole real mixed-vendor Kubernetes on one Linux machine without a container engine: the ground of the demo and the tests."""
