"""Typed settings from TOML and the command line; nothing here imports torch."""
