"""Input and output: every kind of data becomes a `Scan`, and results become files."""
