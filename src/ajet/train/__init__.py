"""Training: timeline, algorithms, batches, packs, the policy and its optimizer, checkpoints, the loop.

`python -m ajet.train` starts in `__main__.py`; the step itself is `loop.py`.
"""
