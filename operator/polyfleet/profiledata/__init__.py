"""Throughput entries from elsewhere: readers of other tools' files, the judgement of what they read, and the way into a profile.

Everything here is pure except `write`, which is the one edge to the API server.
"""
