"""`polyfleet profile`: list, show, validate, compare and import hardware profiles."""
