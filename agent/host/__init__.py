"""Everything that touches the machine, one wing a concern, behind the ports of `agent.host.ports`."""
