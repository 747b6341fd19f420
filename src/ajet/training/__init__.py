"""Training: batches, packs, the policy and its optimizer, checkpoints, the loop."""
