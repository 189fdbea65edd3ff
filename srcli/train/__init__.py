"""Training: photos to weights, resumable at any step. `loop` is the page to read first."""
