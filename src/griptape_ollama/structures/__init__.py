"""Runs of whole structures: what they say while they run, and how they are stopped."""
