"""What the hardware layer costs: profiles, inventory, estimator; `python -m bench.hardware.NAME` prints one table."""
