"""Countdown: reach a target from given numbers, judged by an exact verifier."""
