"""What Ollama speaks: framing, options, durations and addresses. Knows neither Griptape nor sockets."""
