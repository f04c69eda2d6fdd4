"""What is on the server."""
