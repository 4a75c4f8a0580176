"""Making and reading bundles: files, index, manifest, signature."""
