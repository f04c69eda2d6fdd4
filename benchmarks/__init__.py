"""Figures of the package, as ratios measured in one run: `make bench`."""
