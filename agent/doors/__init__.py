"""The ways in. Each ends in the same `agent.deploy.Deployer.submit`."""
