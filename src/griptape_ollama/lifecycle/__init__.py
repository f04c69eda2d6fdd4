"""Which model stays in memory while a structure runs."""
