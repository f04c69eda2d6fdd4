"""The models of a server: metadata, transfers, loading, and the connection settings that drivers share."""
