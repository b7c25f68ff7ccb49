"""A node's comparisons as a log of Inspect (inspect-ai), to be looked at with `inspect view`.

A sample is a comparison: the case and both outcomes are its input, the user's verdict its target, the choice of the
node's last reward model that scored it its answer. The tree shows as spans: one for each outcome, in it one for each
assistant that examined it, and in that one those that examined the answer. Scores say whether the reward model agrees
with the user, and on what it was not fitted to. Only `inspect_ai.log`, `inspect_ai.event` and the like are used, which
are Inspect's stable interface for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rrm.core.errors import ConfigError
from rrm.core.extras import bring
from rrm.core.judgements import Comparison
from rrm.core.records import Assistance
from rrm.exchange.exporting import ExchangeError
from rrm.store.config import read_config
from rrm.store.store import Store
from rrm.view.reading import Reader

AGREES, AHEAD = "agrees", "agrees_held_out"
NEEDS = f"--format inspect needs inspect-ai; {bring('inspect')}"


def export_inspect(run: Path, file: Path, node: str | None = None) -> int:
    """Write a node's comparisons (the root's by default) into FILE.eval; returns how many.

    Raises `ExchangeError` for a node without any, or another suffix, and `ConfigError` without inspect-ai.
    """
    if file.suffix not in (".eval", ".json"):
        raise ExchangeError(f"{file}: a log of Inspect ends in .eval (or .json)")
    with Reader(run) as reader:
        path = node or reader.root
        query = "SELECT pair, margin, held FROM scores WHERE task = ? ORDER BY round"
        rows = reader.rows(query, (path,)) if "scores" in reader.tables else []  # runs of old kept none
        margins = {pair: (float(margin), bool(held)) for pair, margin, held in rows}
    with closing(Store(run / "run.db")) as store:
        comparisons = store.comparisons(path)
    if not comparisons:
        raise ExchangeError(f"{run} has no comparisons at {path!r}")
    config = read_config(run)
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise ConfigError(f"{NEEDS} ({error})") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(log_of(run.resolve().name, path, comparisons, margins, config), str(file))
    return len(comparisons)


def log_of(
    run: str, node: str, comparisons: Sequence[Comparison], margins: Mapping[str, tuple[float, bool]],
    config: Mapping[str, Any],
) -> Any:  # fmt: skip
    """The log. `margins`: of a pair's id, A's score less B's and whether it was held out."""
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalPlan,
        EvalResults,
        EvalScore,
        EvalSpec,
        EvalStats,
    )

    now = datetime.now(UTC).isoformat(timespec="seconds")
    samples = [_sample(i, one, margins.get(one.id)) for i, one in enumerate(comparisons, 1)]
    scores = []
    for name in (AGREES, AHEAD):
        values = [float(one.scores[name].value) for one in samples if name in (one.scores or {})]
        if values:
            mean = {"accuracy": EvalMetric(name="accuracy", value=sum(values) / len(values))}
            scores.append(EvalScore(name=name, scorer=name, scored_samples=len(values), metrics=mean))
    told = config.get("tree", {}).get(node, {})
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=now, task=node, model=f"rrm/{config.get('model', {}).get('name', 'unknown')}",
            dataset=EvalDataset(name=run, samples=len(samples)), config=EvalConfig(),
            metadata={"user": config.get("user"), "seed": config.get("seed"), **told},
        ),
        plan=EvalPlan(), stats=EvalStats(started_at=now, completed_at=now),
        results=EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=scores),
        samples=samples,
    )  # fmt: skip


def _sample(number: int, one: Comparison, margin: tuple[float, bool] | None) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    target = _verdict(one.preference)
    answer = "" if margin is None else _verdict(0.5 if margin[0] == 0 else float(margin[0] > 0))
    asked = f"{one.case.prompt}\n\nA: {one.a.shown}\n\nB: {one.b.shown}"
    scores: dict[str, Any] = {}
    if margin is not None and target in ("A", "B"):
        right = Score(value=0.5 if answer == "tie" else float(answer == target), answer=answer)
        scores = {AGREES: right} | ({AHEAD: right} if margin[1] else {})
    metadata = {
        "round": one.round, "user": one.user, "preference": one.preference, "attention": one.judgement.attention,
        "note": one.judgement.note, "assisted": one.judgement.assisted, "seconds": one.seconds, "pair": one.id,
        "margin": None if margin is None else margin[0], "held_out": None if margin is None else margin[1],
    }  # fmt: skip
    return EvalSample(
        id=number, epoch=1, input=asked, target=target,
        messages=[ChatMessageUser(content=asked), *([ChatMessageAssistant(content=answer)] if answer else [])],
        output=ModelOutput.from_content("rrm", answer), scores=scores, metadata=metadata,
        events=[*_events(one, str(number))],
    )  # fmt: skip


def _verdict(preference: float | None) -> str:
    return "abstained" if preference is None else "tie" if preference == 0.5 else "A" if preference > 0.5 else "B"


def _events(one: Comparison, number: str) -> Iterator[Any]:
    """The tree over both outcomes."""
    from inspect_ai.event import InfoEvent, SpanBeginEvent, SpanEndEvent

    for name, outcome, said in (("A", one.a, one.assistance_a), ("B", one.b, one.assistance_b)):
        span = f"{number}.{name}"
        yield SpanBeginEvent(id=span, span_id=span, name=f"outcome {name}", type="outcome")
        yield InfoEvent(span_id=span, source="outcome", data=outcome.shown)
        for i, assistance in enumerate(said):
            yield from _spans(assistance, f"{span}.{i}", span)
        yield SpanEndEvent(id=span, span_id=span)


def _spans(said: Assistance, span: str, parent: str) -> Iterator[Any]:
    """An assistant, each of its answers, and who examined that."""
    from inspect_ai.event import InfoEvent, SpanBeginEvent, SpanEndEvent

    yield SpanBeginEvent(id=span, span_id=span, parent_id=parent, name=said.assistant, type="assistant")
    if said.na:
        yield InfoEvent(span_id=span, source=said.name, data={"says": "N/A", "why": said.why})
    for a, answer in enumerate(said.answers):
        findings = [{"fact": f.fact, "part": f.part, "holds": f.holds, "note": f.note} for f in answer.findings]
        data = {
            "asked": answer.case.prompt, "says": answer.outcome.shown, "findings": findings,
            "confidence": answer.confidence, "unreadable": answer.unreadable,
        }  # fmt: skip
        yield InfoEvent(span_id=span, source=said.name, data=data)
        for i, below in enumerate(answer.below):
            yield from _spans(below, f"{span}.{a}.{i}", span)
    yield SpanEndEvent(id=span, span_id=span)
