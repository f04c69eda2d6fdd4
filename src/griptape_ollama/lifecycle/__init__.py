"""Keeps the models of a structure in memory exactly as long as its tasks need them."""
