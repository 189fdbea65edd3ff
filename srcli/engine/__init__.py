"""Runs a network over images of any size."""

from srcli.engine.upscaler import Upscaler

__all__ = ["Upscaler"]
