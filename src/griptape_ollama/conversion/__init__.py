"""Griptape to protocol and back; pure functions."""
