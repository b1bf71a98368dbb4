"""Load tests: what an endpoint delivers at a number of requests in flight, as throughput entries of a HardwareProfile.

Pure: `workload` (what is sent when), `statistics` and `samples` (what the answers say), `stages` (which concurrency comes next, when to
stop), `entries` (a stage as an entry, with its source). Edge: `driver` (keeps requests in flight), `client` (one streamed request),
`identify` (what runs there), `target` (a replica in a cluster), `observe` (learning from live traffic). `measure` joins them.
"""
