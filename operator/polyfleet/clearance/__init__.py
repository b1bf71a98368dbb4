"""Who may serve: fingerprints, verdicts and entry checks read from what is observed, and the checks that are still to be run. Pure."""
