"""What Griptape plugs in."""
