"""Functions that know nothing of scans: atomic writes, disk space, folders, paths, argument checks."""
