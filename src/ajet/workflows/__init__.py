"""Workflows that ship with ajet, one folder each."""
