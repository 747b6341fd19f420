"""Code that users write: how it is found and imported, whose lines an error shows, which files belong to it."""
