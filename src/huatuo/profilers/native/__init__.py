"""User space's half of the unwinder: what the tables of a binary say, page by page, on demand."""
