"""What lies on a disk: written whole, locked while it is written, checked when it is read, and whose it is."""
