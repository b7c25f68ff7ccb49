"""A run folder made up for looking at: any texts, any number of comparisons, no models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from pydantic import TypeAdapter

from rrm.core.judgements import Check, Comparison, Judgement, Margin, Pair
from rrm.core.records import Answer, Assistance, Case, Finding, Outcome
from rrm.core.settings import Settings
from rrm.store.store import Store
from rrm.store.truths import Told, TrueOutcome, Truths

SPANS = ({"step1": (0, 2), "step1.0": (0, 1)}, {"step1": (1, 3)})
TREE = ("paper/proofs/steps", "paper/proofs", "paper/data", "paper")


def configure(folder: Path, name: str = "bounded(attention=4)") -> None:
    settings = Settings(rounds=1).model_dump()
    config = {
        "tree": {path: {"settings": settings, "instruction": f"Which {path} is better?"} for path in TREE},
        "finished": {}, "user": {"name": name}, "model": {"name": "none", "fingerprint": "0"}, "seed": 3,
        "about": {"packages": {"torch": "0"}, "started": 1.0},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def assistance(text: str, version: str = "v1", holds: bool = False) -> tuple[Assistance, ...]:
    """Proofs, with steps below it, says `text` and points at a part; data has nothing to judge."""
    deep = Answer(Case(f"steps: {text}"), Outcome(text), (Finding("step1", holds, 0),), 0.25)
    steps = Assistance("paper/proofs/steps", version, (deep,))
    findings = (Finding("step1", holds), Finding("step2", True))
    proofs = Answer(Case(f"proofs: {text}"), Outcome(text), findings, 0.75, (steps,))
    return (Assistance("paper/proofs", version, (proofs,)), Assistance("paper/data", version, ()))


def comparison(
    i: int, task: str = "paper", a: str = "left", b: str = "right", case: str = "a case", said: str = "wrong",
    preference: float | None = 1.0, assisted: bool = True, note: str = "", user: str = "bounded",
) -> Comparison:  # fmt: skip
    shown = assistance(said) if assisted else ()
    pair = Pair(task, Case(case, {"n": i}), Outcome(a), Outcome(b), shown, shown)
    return Comparison(pair, Judgement(preference, (Check("paper/proofs", True, False),), 3, note), 0, user, 1.5)


def make(folder: Path, comparisons: Sequence[Comparison], margins: Sequence[float] = ()) -> Path:
    """A run with these comparisons, what a reward model makes of each, and some curves."""
    configure(folder)
    store = Store(folder / "run.db")
    for i, one in enumerate(comparisons):
        store.add(one, i, SPANS)
    by_task: dict[str, list[Margin]] = {}
    for one, margin in zip(comparisons, margins, strict=False):
        by_task.setdefault(one.pair.task, []).append(Margin(one.id, margin, 0.5, heldout=False))
    for task, rows in by_task.items():
        store.score(task, 0, rows)
    for task in TREE:
        fit = {"n": 60, "accuracy": 0.75, "n_holdout": 22, "holdout_accuracy": 0.7, "disagreement": 0.3}
        store.log(task, 0, "fit", 0, {**fit, "holdout_right": 14, "holdout_decided": 20, "holdout_pairs": 0})
        for step in range(4):
            store.log(task, 0, "improve", step, {"reward": step / 4, "kl": step / 2, "length": 7.0})
        store.log(task, 0, "truth", 0, {"truth": 0.6, "proofs": 0.5})
    store.close()
    return folder


def true(folder: Path, compared: Iterable[tuple[str, str, str]], task: str = "paper") -> None:
    """A truth of these outcomes (case, outcome, assistance), made up: proofs is wrong about every other."""
    with closing(Truths(folder)) as truths:
        truths.begin("code")
        truths.put(
            TrueOutcome(task, case, outcome, n * 7 % 10 / 10, {"step1": n % 3 > 0, "step2": True}, said,
                        (Told(f"{task}/proofs", 1, n % 2, 1, n % 3 == 0),))
            for n, (case, outcome, said) in enumerate(compared)
        )  # fmt: skip


def bulk(folder: Path, small: int, large: int, characters: int = 1_000_000) -> Path:
    """A run of many comparisons at its root: `large` with outcomes of a megabyte each, then `small` short ones.

    Written at once and not through `Store.add`, which waits for the disk after every judgement.
    """
    configure(folder)
    store = Store(folder / "run.db")
    said = json.dumps(_plain(assistance("wrong " * 20)))
    checks = json.dumps([{"by": "paper/proofs", "said": True, "right": True, "contested": False}] * 8)
    blobs: dict[str, str] = {"s": said}
    tokens = {n: json.dumps([1234] * n) for n in (120, characters // 4)}
    logprobs = {n: json.dumps([-0.0123456789] * n) for n in tokens}  # written once: most of the time went here
    rows, scores = [], []
    for table in ("blobs", "comparisons", "scores"):  # nobody certifies it, and hashing takes half of the time
        store._db.execute(f"DROP TRIGGER {table}_insert_linked")
    with store._writing():
        for i in range(large + small):
            case, a, b, told = f"c{i // 4}", f"a{i}", f"b{i}", "s"
            blobs[case] = json.dumps({"prompt": f"case {i // 4} " * 20, "data": {}})
            for side in (a, b):
                text, n = f"outcome {side} " + "some words of it " * 30, 120
                if i < large:
                    text, n = (text * (characters // len(text) + 1))[:characters], characters // 4
                outcome = f'"text": {json.dumps(text)}, "tokens": {tokens[n]}, "logprobs": {logprobs[n]}'
                blobs[side] = f'{{{outcome}, "finished": true}}'
            if i < large:
                told = f"s{i}"
                blobs[told] = json.dumps(_plain(assistance("word " * (characters // 5))))
            rows.append(("paper", 0, i, f"p{i}", case, a, b, told, told, '["paper/proofs@v1"]', "bounded", float(i % 2),
                         checks, 3, "", 0.1, 100.0 + i, 0))  # fmt: skip
            scores.append(("paper", 0, f"p{i}", (-1) ** (i // 3) * 0.7, 0.5, 0))
            if len(blobs) > 1000 or i < large or i + 1 == large + small:
                store._db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, 'x', ?)", blobs.items())
                blobs.clear()
        marks = ", ".join("?" * 18)
        store._db.executemany(f"INSERT INTO comparisons VALUES (NULL, {marks}, '', 0)", rows)
        store._db.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?)", scores)
    for task in TREE:
        for step in range(100):
            store.log(task, 0, "improve", step, {"reward": step / 400, "kl": step / 200, "length": 7.0, "entropy": 1.0})
    store.close()
    return folder


def _plain(said: tuple[Assistance, ...]) -> object:
    return TypeAdapter(tuple[Assistance, ...]).dump_python(said, mode="json")
