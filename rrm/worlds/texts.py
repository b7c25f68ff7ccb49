"""The reader's own texts: briefs, outlines, known works; from a folder or a JSONL file."""

from __future__ import annotations

import json
from pathlib import Path

from rrm.core.errors import RRMError

KEYS = ("text", "prompt", "brief", "outline")
SUFFIXES = (".txt", ".md")


def read_texts(path: str | Path) -> tuple[str, ...]:
    """The texts of a folder of .txt and .md files, in the order of their names, or of JSONL, in the order of its rows:
    the row's "text", "prompt", "brief" or "outline", or its "title" and "abstract".

    Raises `RRMError` if there are none, or a row has nothing of the kind.
    """
    path = Path(path)
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
            texts = [file.read_text(encoding="utf-8").strip() for file in files]
        else:
            rows = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            texts = [_text(row, f"{path}, line {number}") for number, row in rows if row.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RRMError(f"cannot read {path} ({error}); give a folder of .txt or .md files, or a JSONL file") from error
    if not any(texts):
        raise RRMError(f"{path} holds no texts; give a folder of .txt or .md files, or a JSONL file")
    return tuple(text for text in texts if text)


def _text(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RRMError(f"{where}: not JSON ({error})") from error
    if isinstance(row, dict):
        found = next((row[key] for key in KEYS if key in row), None)
        if found is None and {"title", "abstract"} <= set(row):
            found = f"{row['title']}. {row['abstract']}"
        if isinstance(found, str):
            return found.strip()
    raise RRMError(f'{where}: no text; expected one of {", ".join(KEYS)}, or "title" and "abstract"')
