"""Models behind roles that are not trained."""
