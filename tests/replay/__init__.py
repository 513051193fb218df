"""Recorded traffic of real providers through the running daemon: `make replay CORPUS=FILE`."""
