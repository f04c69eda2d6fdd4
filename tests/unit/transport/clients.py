"""Clients of a user's own."""

import contextlib

import ollama


@contextlib.contextmanager
def foreign_client(**settings):
    """Make a client and close it; before 0.6.1 it is no context manager itself."""
    client = ollama.Client(**settings)
    try:
        yield client
    finally:
        client._client.close()
