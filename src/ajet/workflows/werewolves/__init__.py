"""The werewolves party game: hidden roles, night actions, discussion and votes."""
