"""Adapters: one agent framework a file, each turning a `ChatModel` into that framework's model object."""
