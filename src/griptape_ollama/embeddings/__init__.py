"""Many texts, few requests: batches, bad and long texts, vectors that are known already."""
