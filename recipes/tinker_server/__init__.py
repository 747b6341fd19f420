"""SkyRL's Tinker server on a CPU, for tests and experiments (docs/tinkerjet.md tells of servers on GPUs)."""
