"""Real-world degradations for training and test pairs, and the estimate of what a picture has suffered."""
