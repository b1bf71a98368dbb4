"""The autoscaler's place in the operator: what it sees of a model, what it says, and how the placer is asked for it.

    load.Feed (readings) ─┐
    Inputs of the last cycle ─ look ─► autoscaling.decide ─► board (memory, demands in force) ─► Observed.scaling of the next cycle
                                                                                              ─► sizes: bounds and work for the placer

`runner` is the only part that runs by the clock, and `store` the only one that talks to the API server.
"""
