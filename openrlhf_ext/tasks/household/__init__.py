"""A household in text, in the manner of ALFWorld: find things, clean, heat or cool them, put them where they belong."""
