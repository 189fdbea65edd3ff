"""Runs a network over images of any size."""

from srcli.engine.kinds import engine_for, open_engine
from srcli.engine.upscaler import Upscaler

__all__ = ["Upscaler", "engine_for", "open_engine"]
