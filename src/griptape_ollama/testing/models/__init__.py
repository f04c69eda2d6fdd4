"""What simulated models do: loading, memory, prompt cache, templates and generation."""
