"""The activator: holds the requests of models that are at zero, counts them, and passes them on when a replica serves.

A process of its own (`python -m polyfleet.activator`). It reads EndpointSlices and nothing else of the cluster, and writes nothing to it.
"""
