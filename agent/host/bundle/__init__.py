"""Reading a bundle as it arrives, and checking who signed it."""
