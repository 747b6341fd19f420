"""Guess a number from "higher" and "lower": one agent, bisection in as many turns as it takes."""
