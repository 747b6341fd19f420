"""What a run will need, before anything is loaded: memory by part, seconds a step, and whether the machine has it."""
