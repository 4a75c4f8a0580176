"""What a release asks for: read by our own rules, checked, and written anew as the only files that uv reads."""
