"""What the simulator answers: a module for each group of endpoints."""
