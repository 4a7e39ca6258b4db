"""The embedded API server's store: one revision counter, an append-only log in SQLite, the current state in memory."""
