"""How a version runs: what pusher.toml, a Procfile or its own code say of it. That travels signed."""
