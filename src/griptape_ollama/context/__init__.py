"""What fits into a prompt: how many tokens texts have, and how large the window is."""
