"""Messages to token ids and back: the boundary between agent programs and engines."""
