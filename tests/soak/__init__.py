"""Many calls on many threads, some of which go wrong: each ends as it should, and nothing is left behind."""
