"""Counts and times of calls, and where they go."""
