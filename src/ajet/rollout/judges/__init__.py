"""Judges: they score an episode whose workflow returned no reward."""
