"""The daemon: one call path (`handler.py`), what it looks things up in, and what it relays through."""
