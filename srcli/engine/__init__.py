"""Runs a network over images of any size."""
