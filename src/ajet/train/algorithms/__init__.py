"""The learning rule as pure functions: advantages, weights, losses, filters."""
