"""A soak test: many calls on many threads, some with faults; each ends as expected and leaves no resources."""
