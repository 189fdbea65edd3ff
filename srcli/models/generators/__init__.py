"""The generators, by the name a preset uses."""

from __future__ import annotations

from srcli.models.sr import Generator

GENERATORS: dict[str, type[Generator]] = {}

__all__ = ["GENERATORS"]
