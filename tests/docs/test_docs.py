"""The documentation is true: its code runs as it stands there, its links lead somewhere, the site builds."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from tests import forked
from tests.docs.pages import ROOT, Block, blocks, missing, pages

PAGES = [page for page in pages() if blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one folder; what cannot run here is skipped and said."""
    monkeypatch.chdir(tmp_path)
    for folder in ("tasks", "assistants", "scripts", "docs"):  # where the shell blocks of a checkout expect them
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    skipped: list[str] = []
    said: str | None = None  # what the last block printed; None: it did not run
    for block in blocks(page):
        why = next((why for need in block.needs if (why := missing(need))), "")
        if block.language == "text" and not block.title:
            for line in filter(None, block.code.splitlines() if said is not None else []):
                assert line in said, f"{page.name}, line {block.line}: the page says {line!r}, and there was {said!r}"
        elif why or block.not_run:
            said = None
            if why:
                skipped.append(f"line {block.line}: {why}")
        else:
            said = _run(block, names)
    if skipped:
        pytest.skip("; ".join(dict.fromkeys(skipped)))


def _run(block: Block, names: dict[str, Any]) -> str:
    """What it printed."""
    if block.title:
        Path(block.title).write_text(block.code)
        return ""
    if block.language == "python":
        with redirect_stdout(StringIO()) as out:
            exec(compile("\n" * (block.line - 1) + block.code, str(block.page), "exec"), names)
        return out.getvalue()
    where = f"{block.page.name}, line {block.line}:\n{block.code}"
    lines = [line for line in block.code.splitlines() if line and not line.startswith("#")]
    if all(line.startswith("rrm ") and " || " not in line for line in lines):  # here, where everything is imported
        said = ""
        for line in lines:
            done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
            assert done.exit_code == 0, f"{where}\n{done.output}"
            said += done.output
        return said
    command = ["bash", "-euo", "pipefail", "-c", block.code]
    with TemporaryDirectory() as folder:
        there = forked.on_path(Path(folder))  # `torchrun -m rrm` and the like start by themselves, and so see to that
        env = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
        ran = subprocess.run(command, env=env, pass_fds=[there], capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, f"{where}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


def test_blocks_are_found_with_what_they_need(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n```python\nx = 1\n```\n\n<!-- needs: smollm2, module trl -->\n```bash\nrrm train\n```\n"
        "<!-- not run: it waits for people -->\n\n```bash\nrrm label\n```\n"
        '```json\n{}\n```\n```python title="t.py"\ny\n```\n'
    )
    found = blocks(page)
    assert [(b.language, b.code, b.line) for b in found[:2]] == [("python", "x = 1\n", 4), ("bash", "rrm train\n", 9)]
    assert found[1].needs == ("smollm2", "module trl") and found[2].not_run == "it waits for people"
    assert len(found) == 4 and found[3].title == "t.py"
    with pytest.raises(ValueError, match="does not know"):
        missing("nothing of the kind")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:|#", target):
            continue
        path = (page.parent / target.split("#")[0]).resolve()
        assert path.exists(), f"{page.name}: {target}"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs: pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    for name in ("rrm.Task", "rrm.train", "rrm.Settings", "rrm.BoundedUser", "rrm.models.backbone.Backbone"):
        assert f'id="{name}"' in reference, name
