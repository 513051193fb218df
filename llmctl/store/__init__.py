"""One SQLite file: plain SQL, one module per noun. Everything that knows SQLite lives here."""
