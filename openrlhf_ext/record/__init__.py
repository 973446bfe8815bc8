"""What a run leaves behind: its directory, its progress on the terminal, and the report made from it."""
