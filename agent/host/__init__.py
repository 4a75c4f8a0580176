"""Everything that touches the machine, one concern a file, behind the ports of `agent.host.ports`."""
