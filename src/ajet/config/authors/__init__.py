"""Code that users write: how it is found and imported, whose lines an error shows, and which of it is known."""
