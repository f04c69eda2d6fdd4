"""The only room with sockets: one request, its limits, its retries, and how it is stopped."""
