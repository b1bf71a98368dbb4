"""Names that the operator writes and the activator reads, and the other way round."""

from __future__ import annotations

# On every EndpointSlice that either of them looks at, so that one watch finds all: the controller copies a Service's labels to its slices.
ROLE = "polyfleet.io/activator"
PODS = "pods"  # the activator's own Service: where its pods are
HELD = "held"  # ours, of a model that may sleep: the port where its requests are held
SERVING = "serving"  # a model's own Service: where its replicas are

SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
OURS = "polyfleet.io"
CONTROLLER = "endpointslice-controller.k8s.io"

# Annotations of a slice of ours.
MODEL = "polyfleet.io/model-deployment"  # name of the ModelDeployment, in its full length
HOLD_S = "polyfleet.io/hold-seconds"  # how long a request is to be held
WAKE_S = "polyfleet.io/wake-seconds"  # how long a wake is expected to take; absent = not known
SERVED = "polyfleet.io/served-name"  # what `model` is in requests

# Series of the activator, each with the labels namespace and name.
REQUESTS = "polyfleet_activator_requests"
WAITING = "polyfleet_activator_waiting_requests"
BYTES = "polyfleet_activator_waiting_bytes"
PROMISE = "polyfleet_activator_hold_seconds"
ANSWERS = "polyfleet_activator_answers"

METRICS_PORT = 8080
FIRST_PORT, LAST_PORT = 20000, 31999  # of the models; below the ports that Linux gives to outgoing connections
