"""gymnasium's FrozenLake as a conversation: one agent walks to the goal, a word a step."""
