"""Counts and times of calls, and alerts."""
