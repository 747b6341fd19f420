"""How a machine computes a model best: what packs cost on it, and which number of threads is fastest."""
