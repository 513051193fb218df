"""Cohere's own dialect, version 2."""
