"""Presets and recipes of the example."""
