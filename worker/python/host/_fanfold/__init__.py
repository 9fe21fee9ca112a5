"""The parts of the host program; `host` is where to start reading."""
