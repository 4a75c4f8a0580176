"""Bundles, made and read: tree, index, manifest, signature, archive."""
