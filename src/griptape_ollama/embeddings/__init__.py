"""Many texts in few requests: batches, shared requests, failing and long texts, cached vectors."""
