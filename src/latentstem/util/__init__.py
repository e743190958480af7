"""Small helpers that know nothing of scans: whole-file writing, room on disks, paths, argument checks."""
