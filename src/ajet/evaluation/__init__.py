"""Held-out play and what it proves: scores by task, paired differences with intervals, summaries."""
