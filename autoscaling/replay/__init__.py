"""Replays a load against a simulated fleet, so that any autoscaling policy, the shipped one included, can be judged before it acts."""
