"""The only package with sockets: requests, their limits, retries and cancellation."""
