"""Two debaters and a judge: the shortest multi-agent example."""
