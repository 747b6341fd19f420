"""A Lewis signalling game: the framework's hello world."""
