"""Credit rules, a file each, for `credit=<file>`: the outcomes of a task in, the pools that share a baseline out."""
