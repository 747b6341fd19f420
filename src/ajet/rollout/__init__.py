"""Tasks -> episodes: one episode at a time in `runner`, groups of them in `scheduler`."""
