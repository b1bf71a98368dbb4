"""From a plan to desired objects: pure functions of resolved options, one file per kind of object."""
