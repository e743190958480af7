"""What survives: kills, full disks, damaged files, bad input, long sessions, other environments.

Inputs, damaged files and ways to interrupt are those of the tests, in ``tests/hostile``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
