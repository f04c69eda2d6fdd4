"""The endpoints of the simulator: one module for each group."""
