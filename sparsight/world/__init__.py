"""Floor 5: synthetic scenes with exact ground truth, and the embedded model trained on them."""
