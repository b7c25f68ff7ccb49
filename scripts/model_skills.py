"""What can each model do, untrained, of what the trees in words ask of it?

    python scripts/model_skills.py --models smollm2 --out runs/model-skills

Parts:
  gsm8k      test questions solved, greedily, held to the form of `word_problems` and not
  roles      readable answers of each role of the trees in words (`rrm look`)
  steps      verdicts on each step of BIG-Bench-Mistake, asked whether it is right and whether it is wrong
  solutions  the same of four models' solutions of GSM8K's questions
  llmbar     LLMBar's pairs, judged in both orders
  speed      tokens per second and peak memory, beside transformers' `generate`

Every answer is kept in OUT/MODEL/PART.jsonl as it comes; what was stopped goes on, and the same command again computes
nothing twice. What was made otherwise (another model, precision, prompt, size of an outcome) is refused. More items are
added to those that are there. A model may be given a name of its own: --models NAME=FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from kept_rows import COSTS, append, processor, read
from rich.console import Console
from rich.table import Table
from skill_page import Sheet, sheets
from skill_parts import PARTS, Sizes, parts, trees_of
from transformers.utils import logging

from rrm.core.errors import RRMError
from rrm.measure.catalog import with_own_words
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision, limit_threads
from rrm.models.probing import probe
from rrm.store.files import write_atomically

QUICK = {"gsm8k": 4, "traces": 2, "questions": 2, "pairs": 2, "cases": 1, "outcomes": 2, "rows": 2, "tokens": 4,
         "longest": 12}  # fmt: skip
"""Sizes for a try."""


def named(model: str) -> tuple[str, str]:
    """ "NAME=WHERE", or a name that `Backbone.load` takes: the name of its folder of results, and where it is."""
    name, given, where = model.partition("=")
    return (re.sub(r"[^\w.-]+", "-", name).strip("-"), where if given else name)


def loaded(where: str, folder: Path, precision: str | None) -> Backbone:
    """The model as it was the last time it was measured. Raises `RRMError` if it is another, or another precision is
    asked for than its results were made with."""
    path = folder / "model.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if precision and known and precision != known["precision"]:
        raise RRMError(f"{folder} was made in {known['precision']}, not in {precision}; give another --out")
    precision = precision or known.get("precision")
    spent, began = processor(), time.monotonic()
    backbone = Backbone.load(where)
    wanted = Precision(precision, precision) if precision else probe(backbone)[0]  # type: ignore[arg-type]
    is_now = {"fingerprint": backbone.fingerprint, "parameters": backbone.size, "precision": wanted.weights,
              "context": backbone.limit}  # fmt: skip
    if known and known != is_now:
        raise RRMError(f"{folder} is of another model ({known}, now {is_now}); give another --out")
    backbone.precision = wanted
    write_atomically(path, json.dumps(is_now).encode())
    cost = {"cpu": round(processor() - spent, 2), "wall": round(time.monotonic() - began, 2)}
    append(folder / COSTS, [{"part": "loading", "first": 0, "items": 1, "tokens": 0, **cost}])
    return backbone


def measure(args: argparse.Namespace, sizes: Sizes) -> None:
    """Every part of every model; all files are looked at before anything is computed."""
    for model in args.models:
        name, where = named(model)
        folder = args.out / name
        backbone = loaded(where, folder, args.precision)
        made = parts(args.parts, backbone, where, sizes, args.data, args.trees)
        for part in made:
            part.kept(folder)
        for part in made:
            part.run(folder, name)
        del backbone, made


def machine() -> str:
    """The processor's name and how much of it was used."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} processors"


def commands(models: dict[str, Path]) -> list[str]:
    """What makes the files that are there: of models that were asked as much, one command."""
    alike: dict[str, list[str]] = {}
    for name, folder in models.items():
        kept = {part: [read(path) for path in folder.glob(f"{part}*.jsonl")] for part in PARTS}
        chosen = [part for part in PARTS if kept[part]]
        options = [] if len(chosen) == len(PARTS) else ["--parts", *chosen]
        counted = {"gsm8k": "gsm8k", "steps": "traces", "solutions": "questions", "llmbar": "pairs"}
        for part in chosen:
            if part in counted:
                options.append(f"--{counted[part]} {max(len(rows) for _, rows in kept[part])}")
            else:
                settings = kept[part][0][0] or {}
                options += [f"--{one} {settings[one]}" for one in settings if one in Sizes.__annotations__]
        alike.setdefault(" ".join(options), []).append(name)
    return [f"python scripts/model_skills.py --models {' '.join(names)} {how}" for how, names in alike.items()]


def page(models: dict[str, Path], found: list[Sheet]) -> str:
    """The page: what was asked of whom, and the tables."""
    lines = ["# What can each model do?", "", "Untrained; before a tree makes anything of them.", ""]
    lines += [*(f"    {command}" for command in commands(models)), ""]
    lines += [f"On {machine()}. Intervals are 95 %, by resampling questions, traces or pairs; where a share is 0 or 1"]
    lines += ["they have no width, though 0 of n leaves room for 3/n.", ""]
    lines += ["| model | parameters | precision | context | weights |", "| --- | --- | --- | --- | --- |"]
    for name, folder in models.items():
        known = json.loads((folder / "model.json").read_text())
        lines.append(f"| {name} | {known['parameters'] / 1e6:.0f} M | {known['precision']} | {known['context']} | "
                     f"`{known['fingerprint']}` |")  # fmt: skip
    return "\n".join([*lines, "", *(sheet.markdown() for sheet in found)])


def show(found: list[Sheet]) -> None:
    """Print the tables."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    for sheet in found:
        table = Table(*sheet.head, title=sheet.title, title_justify="left", box=None)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        console.print()


def main() -> None:
    """Measure what is missing, print the tables, and write the page if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Sizes()
    parser.add_argument("--models", nargs="+", required=True, help="folders or names, or NAME=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("runs/model-skills"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--data", type=Path, help="the folder of the data; default $RRM_DATA, or the published files")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default: what is faster here")
    parser.add_argument("--trees", nargs="+", choices=[*trees_of(None)], default=[*trees_of(None)], help="for roles")
    for size, what in {
        "gsm8k": "questions to solve", "traces": "of each kind of steps", "questions": "whose solutions are judged",
        "pairs": "of each kind of LLMBar", "cases": "of each role", "outcomes": "of each case of a role",
        "rows": "for speed", "tokens": "for speed",
    }.items():  # fmt: skip
        parser.add_argument(f"--{size}", type=int, help=f"{what}; default {getattr(default, size)}")
    parser.add_argument("--quick", action="store_true", help="a few items of each, short outcomes: does it run?")
    parser.add_argument("--report", action="store_true", help="only read what is there, and compute nothing")
    parser.add_argument("--doc", type=Path, help="write the page to this file")
    args = parser.parse_args()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    limit_threads()
    given = {f.name: getattr(args, f.name) for f in fields(Sizes) if getattr(args, f.name, None) is not None}
    sizes = Sizes(**{**(QUICK if args.quick else {}), **given})
    models = {name: args.out / name for name, _ in map(named, args.models)}
    try:
        if not args.report:
            measure(args, sizes)
        missing = [name for name, folder in models.items() if not (folder / "model.json").exists()]
        if missing:
            raise RRMError(f"nothing was measured of {', '.join(missing)} in {args.out}")
        found = sheets(models)
        show(found)
        if args.doc:
            write_atomically(args.doc, with_own_words(page(models, found), args.doc).encode())
    except RRMError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
