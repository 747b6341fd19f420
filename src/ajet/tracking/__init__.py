"""What a run leaves behind: metrics, logs, trajectories."""
