"""The way back from zero: what the operator and the activator agree on (`names`, `slices`, `ports`), what a model's way is now
(`path`), and the reading of the activator's counters (`ledger`, `reader`). Everything but `reader` is pure."""
