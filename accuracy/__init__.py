"""The cross-hardware accuracy gate: shows that a device's outputs are equivalent to the reference's (README.md)."""
