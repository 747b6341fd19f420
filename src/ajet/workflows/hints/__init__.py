"""A word game in plain English for two agents, for pretrained models."""
