"""Wire formats: bytes in, facts out. Pure; one module per dialect, one visible table in `table.py`."""
