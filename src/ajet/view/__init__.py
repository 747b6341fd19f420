"""Episodes of a run as pages: a list, an episode as a conversation, a call token by token, two side by side."""
