"""What a machine does best with a model: what packs cost on it, and how many threads it wants: `python -m ajet.tune`."""
