"""What `recipes.small_models.gates` measures of each small model."""
