"""Files in a drop directory: opened safely, read, and compared with what was signed."""
