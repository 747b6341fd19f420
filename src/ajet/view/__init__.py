"""Episodes of a run as pages: a list, a game as a conversation, a call token by token, two games side by side."""
