"""Process nodes: Kubernetes nodes whose pods are local processes, for machines that do not allow containers.

One agent process per node plays the kubelet, the container runtime and the device plugin at once. It exists so that every scenario
of the sandbox also runs without privileges, and so that faults can be scripted; what it cannot give (isolation, cgroups, exec) it
says instead of pretending. Entry point: ``python -m sandbox.processnode``; ``end_all`` ends what a node left running.
"""

from sandbox.processnode.ending import end_all

__all__ = ["end_all"]
