"""Repositories: bundles, release lists and channel documents, in a folder or on a server."""
