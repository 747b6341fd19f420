"""Advantages, a file each, for `algorithm.advantage=<file>`: `Outcomes` in, a value for each agent out."""
