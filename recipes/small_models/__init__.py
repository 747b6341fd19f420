"""The small model that ships with ajet, and the recipe that made it."""
