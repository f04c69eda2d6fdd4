"""The `griptape-ollama` command."""
