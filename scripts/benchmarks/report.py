"""The report as tables: on the terminal, and as docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

INTRODUCTION = """# Benchmarks

Written by `scripts/bench.py`. Both sides run in one process, in turn (A/B/A/B), with the same model (random
weights), the same LoRA adapters, lengths, data and threads; figures are medians, with the smallest and the
largest beside them. TRL and `generate` get the settings that are fastest for them here (below each table).

"""


def medians(sides: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Side -> median; sides that never ran are left out."""
    return {side: statistics.median(values) for side, values in sides.items() if values}


def show(report: Mapping[str, Any], console: Console) -> None:
    """All figures on the terminal."""
    table = Table("measurement", "side", "median", "all runs", "unit", title="medians")
    for case in report["cases"].values():
        for what, side, values in _rows(case):
            table.add_row(what, side, f"{statistics.median(values):.4g}", _all(values), case["unit"])
    console.print(table)
    ratios = Table("key", "value", title="how many times faster, and how near the limits")
    for key, value in _headline(report):
        ratios.add_row(key, value)
    console.print(ratios)
    for name, case in report["cases"].items():
        for note in (*case.get("notes", ()), *_absent(case)):
            console.print(f"[dim]{name}: {note}[/dim]", highlight=False)
    console.print(f"{report['seconds']:.0f} s, {report['settings']['threads']} threads")


def markdown(report: Mapping[str, Any]) -> str:
    """The same as a page."""
    lines = [INTRODUCTION + f"    {report['command']}\n"]
    lines.append("; ".join(f"{k} {v}" for k, v in report["machine"].items()) + ".")
    lines.append("; ".join(f"{k} {v}" for k, v in report["versions"].items()) + ".")
    settings = report["settings"]
    lines.append(f"Threads {settings['threads']}; {settings['runs']} runs; {report['seconds']:.0f} s in all.\n")
    lines += ["| key | value |", "| --- | --- |"]
    lines += [f"| `{key}` | {value} |" for key, value in _headline(report)]
    for name, case in report["cases"].items():
        lines.append(f"\n## {name}\n")
        lines += [f"{reason}\n" for reason in _absent(case)]
        if "raw" not in case:
            continue
        lines += [f"| measurement | side | median, {case['unit']} | runs |", "| --- | --- | --- | --- |"]
        for what, side, values in _rows(case):
            lines.append(f"| {what} | {side} | {statistics.median(values):.4g} | {_all(values)} |")
        if trees := case["details"].get("trees"):
            lines += ["", "| depth | breadth | nodes | seconds | passes | cases asked | peak MB |", "|" + " --- |" * 7]
            lines += [
                f"| {t['depth']} | {t['breadth']} | {t['nodes']} | {statistics.median(t['seconds']):.2f} | "
                f"{t['passes']} | {t['asked']} | {t['peak_mb']:.0f} |"
                for t in trees
            ]
        lines += ["", *(f"- {note}" for note in case["notes"])]
        lines += [f"- {key}: {_plain(value)}" for key, value in case["settings"].items()]
    return "\n".join(lines) + "\n"


def _headline(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{kind}.{key}", f"{value:.3g}")
        for kind in ("ratios", "limit", "memory")
        for key, value in report[kind].items()
    ]


def _rows(case: Mapping[str, Any]) -> list[tuple[str, str, list[float]]]:
    sides = case.get("raw", {}).items()
    return [(what, side, values) for what, by_side in sides for side, values in by_side.items()]


def _absent(case: Mapping[str, Any]) -> list[str]:
    return [str(case[key]) for key in ("missing", "failed") if key in case]


def _all(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _plain(value: Any) -> str:
    """Nested settings on one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return str(value)
