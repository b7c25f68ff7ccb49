"""The page of errors quotes what rrm says: each piece of a message stands in the code."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "errors.md"
ROW = re.compile(r"^\| `+(?P<said>[^|]+?)`+ \| (?P<why>[^|]+) \|$", re.M)


@cache
def texts() -> str:
    """All strings of the package, with a gap where something is named."""
    found = []
    for path in sorted((ROOT / "rrm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def rows() -> list[tuple[str, str]]:
    return [(one["said"].strip("` "), one["why"]) for one in ROW.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("said", [said for said, _ in rows()])
def test_what_the_page_quotes_is_what_rrm_says(said: str) -> None:
    pieces = [piece.strip() for piece in said.split("...")]
    assert not [piece for piece in pieces if piece and piece not in texts()]


def test_each_row_says_what_to_do() -> None:
    assert len(rows()) >= 30 and all(len(why) > 15 for _, why in rows())
