"""A run directory's files: written whole, verified when read, locked while a process works on them."""
