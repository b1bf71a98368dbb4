"""The autoscaler judged by replay: references, other autoscalers, targets, outages."""
