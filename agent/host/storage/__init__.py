"""What must survive a power cut: the disk, the journal, the agent's lock."""
