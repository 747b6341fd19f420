"""Held-out play and what it proves: scores by task, paired differences with intervals, summaries.

`python -m ajet.evaluate` starts in `__main__.py`; intervals and tests are in `statistics`.
"""
