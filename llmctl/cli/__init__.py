"""The commands: parse, call the store, render. One file per noun; `app.py` has the table of them."""
