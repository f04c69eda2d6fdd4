"""Estimates of token counts, learned from replies."""
