"""A worker's script that is asked once and never answers: started by test_sandbox."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "assistants" / "tools"))

from serve import serve


def forever(_):
    while True:
        pass


serve(forever)
