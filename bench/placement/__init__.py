"""bench.placement: the placer judged on seeded instances by counters that share no code with it, beside other projects' planners."""
