"""What survives: kills, full disks, hostile files, bad input, long sessions, other environments."""
