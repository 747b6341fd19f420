"""Metrics that are measured with a clock or by memory, and so differ between two runs that are alike."""

from __future__ import annotations

MEASURED = ("time/", "rate/", "memory/")
"""How their names begin."""
