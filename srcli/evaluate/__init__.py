"""Evaluation: how good models are, by named protocols, one row per picture."""
