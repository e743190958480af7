"""Small helpers without knowledge of scans: atomic writing, disk space, paths, argument checks."""
