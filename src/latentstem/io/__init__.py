"""Input and output: data of any kind are opened as a `Scan`, and results are written to files."""
