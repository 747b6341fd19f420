"""What `ajet.models.gates` measures of each small model."""
