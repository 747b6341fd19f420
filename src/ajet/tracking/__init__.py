"""What a run leaves behind: metrics, logs, trajectories; `files` writes and reads its directory."""
