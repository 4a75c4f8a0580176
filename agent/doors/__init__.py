"""The ways in. Each ends in the same `agent.deploy.deployer.Deployer.submit`."""
