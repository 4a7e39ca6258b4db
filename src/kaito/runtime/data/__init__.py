"""Data sets: fetched, recognised by content, checked row by row, and written as one canonical Arrow data set."""
