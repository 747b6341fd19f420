"""Run directories -> numbers and plots. Needs no torch."""
