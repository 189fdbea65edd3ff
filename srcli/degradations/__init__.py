"""Real-world degradations for training and test pairs, and the estimate of what a picture has suffered."""

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, BT.601; JPEG's
