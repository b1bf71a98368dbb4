"""G6 Tasks: behaviour that token scores do not show, each time paired with the reference. Pure."""
