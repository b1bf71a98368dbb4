"""`polyfleet model`: the catalogue, and shapes of models outside it."""
