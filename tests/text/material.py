"""Made-up rows in the schemas of the published tables, and the published ones where they are at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

RIGHT = "Tom has 3 + 4 = <<3+4=7>>7 apples.\nHe sells them for 7 * 2 = $<<7*2=14>>14.\nA: 14"
WRONG = "Tom has 3 + 4 = <<3+4=7>>7 apples.\nHe sells them for 9 * 2 = $<<9*2=18>>18.\nA: 18"
QUESTION = "Tom picks 3 red and 4 green apples. He sells each for $2. How much money does he get?"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def solved(n: int) -> dict[str, Any]:
    """A question about n apples, solved rightly by half of the models, which half depends on n; the others make up a
    number."""
    right = f"He has {n} + 2 = <<{n}+2={n + 2}>>{n + 2} apples.\nA: {n + 2}"
    wrong = f"He has {n} + 97 = <<{n}+97={n + 97}>>{n + 97} apples.\nA: {n + 97}"
    row: dict[str, Any] = {"question": f"Tom has {n} apples and gets 2 more. How many apples has he?"}
    row["ground_truth"] = f"{n} + 2 = <<{n}+2={n + 2}>>{n + 2}\nA: {n + 2}"
    for i, model in enumerate(MODELS):
        good = (i + n) % 2 == 0
        row[model] = {"is_correct": good, "solution": right if good else wrong}
    return row


def trace(n: int, mistake: int | None) -> dict[str, Any]:
    """n + 2 times 3 in three steps; the step `mistake` comes out one too high."""
    off = [int(mistake == i) for i in range(3)]
    a, b = n + 2 + off[1], 3 * (n + 2 + off[1]) + off[2]
    steps = [
        f"This can be written as A * 3, where A = ({n} + 2).",
        f"Let's calculate A = ({n} + 2) = {a}.",
        f"Then, the final equation is A * 3 = {a} * 3 = {b}. So the answer is {b}",
    ]
    target, answer = str(3 * (n + 2)), str(b)
    return {"input": f"({n} + 2) * 3 =", "steps": steps, "target": target, "answer": answer, "mistake_index": mistake}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def published() -> Path:
    """The folder of published data; skips the test where there is none."""
    folder = Path(os.environ.get("RRM_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (folder / "gsm8k").is_dir():
        pytest.skip(f"no data sets in {folder}; set RRM_DATA to their folder")
    return folder
