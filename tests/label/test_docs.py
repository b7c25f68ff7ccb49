"""docs/bring-your-labels.md: everything on it runs, in its order, and prints what the page says it prints."""

from __future__ import annotations

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm.cli import app

PAGE = Path(__file__).parent.parent.parent / "docs" / "bring-your-labels.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_page_runs_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    said, ran = "", 0
    for kind, body in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "text":
            for line in filter(None, body.splitlines()):
                assert line in said, f"the page says {line!r}, and there was {said!r}"
            continue
        said = ""
        if kind == "python":
            with redirect_stdout(StringIO()) as out:
                exec(compile(body, str(PAGE), "exec"), names)
            said = out.getvalue()
        else:
            assert kind == "sh", f"a block in {kind}: not run"
            for line in body.splitlines():
                done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
                assert done.exit_code == 0, f"{line}: {done.output}"
                said += done.output
        ran += 1
    assert ran >= 10
