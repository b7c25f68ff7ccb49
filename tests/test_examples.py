"""Every example runs by itself, in an empty folder, and says what it should."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import forked

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "small_tree": ["title", "The critic: writing", "rrm inspect runs/small-tree"],
    "scripted_user": ["4 against 5: 1.0 (0 against 1 called wrong)", "5 against 4: 0.0"],
    "custom_agent": ["'right': "],
}


def test_every_example_is_run_and_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name}.py)" in listed for name in SAYS)


@pytest.mark.parametrize("name", [pytest.param("small_tree", marks=pytest.mark.slow), "scripted_user", "custom_agent"])
def test_it_runs(name: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = forked.run([EXAMPLES / f"{name}.py"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(words in done.stdout for words in SAYS[name]), done.stdout
    print(f"{time.monotonic() - began:.0f} s")


def test_the_small_tree_is_small() -> None:
    """20 lines of code, as its page says."""
    lines = (EXAMPLES / "small_tree.py").read_text().partition('"""\n\n')[2].splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) <= 20, len(code)
