"""The labeling page: pairs claimed from the queue, one POST per judgement.

What a page sends carries a key that it made itself, and it sends it again until it is answered: whatever is
answered is on the disk, and nothing is there twice (`rrm.labels`). Pairs are claimed a few ahead, so that the
next one is there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rrm.core.clean import HIDDEN, visible
from rrm.core.records import Outcome, Spans, digest
from rrm.core.remarks import Kind, Remark
from rrm.labels.questions import Choice, LabelError, Question, Said, Verdict, said
from rrm.labels.queue import LabelerProgress, Labels
from rrm.labels.remarking import offered, remark_of
from rrm.view.accuracy import confidence_of
from rrm.view.clips import Clip, clip_of, moments, steps_of
from rrm.view.comparisons import points
from rrm.view.guide import asked_below
from rrm.view.label_end import LabelEnd, end_of
from rrm.view.reading import Reader
from rrm.view.said_once import once
from rrm.view.uplift import told
from rrm.view.web.diff import differences, pieces
from rrm.view.web.rendering import render, url

AHEAD = 3
"""Pairs that a page holds: the one in view and those behind it."""


class Message(BaseModel):
    """What the page sends; nothing else is accepted."""

    model_config = ConfigDict(extra="forbid")

    labeler: str


class Next(Message):
    """Asks for what this person is to see: pairs, or the report."""


class SentRemark(BaseModel):
    """What is said of one outcome; `text` of a correction is what it should have been."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    value: float | None = None
    text: str = Field(default="", max_length=200_000)

    def remark(self, levels: int) -> Remark:
        """The same, of a rating with its number of levels."""
        return remark_of(self.kind, self.value, self.text, levels)


class SentLabel(Message):
    """A judgement; the fields are the parameters of `Labels.answer`."""

    key: str
    question: str
    choice: Choice
    strength: str = "clearly"
    seconds: float
    note: str = Field(default="", max_length=20_000)
    marks: dict[str, Verdict] = {}
    hidden: bool = False
    remarks: tuple[list[SentRemark], list[SentRemark]] = ([], [])
    """Of what was shown first, and of the other."""


class Undo(Message):
    """Takes back the label with the key `target`, or else the latest; `key` is this message's own."""

    key: str = Field(min_length=8, max_length=100)
    target: str | None = None


def page(request: Request) -> Response:
    """The page, still empty: it asks for its pairs."""
    folder = request.app.state.folder.resolve()  # ".", too, has a name then
    return render(
        request, "label.html", run=folder.name, place=digest(str(folder)),
        labeler=request.app.state.labeler or "", guidelines=getattr(request.app.state, "guidelines", ""),
        pages=url("r", folder.name),
    )  # fmt: skip


async def next_pairs(request: Request) -> Response:
    """The pairs this person holds, topped up; and how far everything is."""

    def answer(labels: Labels, message: Next) -> dict[str, Any]:
        questions = labels.claim(message.labeler, AHEAD)
        progress = labels.progress(message.labeler)
        folder: Path = request.app.state.folder
        with Reader(folder, folder.resolve().name) as run:
            guide = {question.task: _guide(run, question.task) for question in questions}
            knowing = run.knowing if questions else frozenset()
            end = None if questions else _end(end_of(run, folder, progress, labels.path.parent != folder))
        return {
            "questions": [as_shown(question, message.labeler, knowing, folder) for question in questions],
            "guide": {visible(task): asked for task, asked in guide.items()},
            "progress": standing(progress, labels.mixing is not None),
            "end": end,
        }

    return await _reply(request, Next, answer)


def standing(progress: LabelerProgress, mixed: bool) -> dict[str, Any]:
    """What a page is told of where its person stands. With controls in between, only what each judgement adds one to:
    the rest (what is judged of the round, what is left, how long that takes) goes by the others alone."""
    if mixed:
        return {"mixed": True, "mine": progress.mine, "judged": progress.judged}
    return {**vars(progress), "mixed": False}


async def judged(request: Request) -> Response:
    """Keep a judgement; answers with its `Receipt`, or 400 and the reason."""

    def answer(labels: Labels, message: SentLabel) -> dict[str, Any]:
        levels = labels.question(message.question).asked.get("rating", 0)
        first, second = ([one.remark(levels) for one in side] for side in message.remarks)
        return vars(labels.answer(**message.model_dump(exclude={"remarks"}), remarks=(first, second)))

    return await _reply(request, SentLabel, answer)


async def undone(request: Request) -> Response:
    """Take a judgement back; answers with its `Receipt`, and, unless training has used it, the question (`shown`)."""

    def answer(labels: Labels, message: Undo) -> dict[str, Any]:
        receipt = labels.undo(message.key, message.labeler, message.target)
        again = receipt.question and not receipt.late
        folder: Path = request.app.state.folder
        knowing = known_of(folder) if again else frozenset()
        shown = as_shown(labels.question(receipt.question), message.labeler, knowing, folder) if again else None
        return {**vars(receipt), "shown": shown}

    return await _reply(request, Undo, answer)


async def reported(request: Request) -> Response:
    """This person's uplift, and how far people agree."""

    def answer(labels: Labels, message: Next) -> dict[str, Any]:
        return {"lines": told(request.app.state.folder, labels, message.labeler)}

    return await _reply(request, Next, answer)


Sent = TypeVar("Sent", bound=Message)


async def _reply(request: Request, kind: type[Sent], answer: Callable[[Labels, Sent], Mapping[str, Any]]) -> Response:
    labels: Labels = request.app.state.labels
    try:
        message = kind.model_validate_json(await request.body())
        if request.app.state.labeler not in (None, message.labeler):
            raise LabelError(f"this page is for {request.app.state.labeler}; load it again")
        return JSONResponse(await run_in_threadpool(answer, labels, message))
    except ValidationError as error:
        return JSONResponse({"error": f"{error.error_count()} faults in what the page sent; load it again"}, 400)
    except LabelError as error:
        return JSONResponse({"error": str(error)}, 400)


def _guide(run: Reader, task: str) -> list[dict[str, Any]]:
    """What the assistants of a task were asked."""
    return [
        {"name": visible(one.name), "depth": one.depth, "asked": visible(one.asked), "looks": visible(one.looks_at)}
        for one in asked_below(run, task)
    ]


def _end(end: LabelEnd) -> dict[str, Any]:
    return {**vars(end), "steps": [{"command": visible(typed), "what": what} for typed, what in end.steps]}


def known_of(folder: Path) -> frozenset[str]:
    """The assistants whose confidence is worth showing to whoever judges: see `Reader.knowing`."""
    with Reader(folder, folder.resolve().name) as run:
        return run.knowing


# --- what is shown: text, and nothing else -----------------------------------------------------------


def as_shown(
    question: Question, labeler: str, knowing: Set[str] = frozenset(), folder: Path | None = None
) -> dict[str, Any]:
    """A question as this person sees it: in their order, with or without assistance; ranks of answers by `knowing`
    assistants only. Episodes are played from their beginning, as `folder`, the run's, keeps them."""
    pair, assisted = question.pair, question.assisted(labeler)
    order = ("b", "a") if question.swapped(labeler) else ("a", "b")
    answers = said(pair) if assisted else []
    outcomes = {"a": pair.a, "b": pair.b}
    texts, spans = {side: one.shown for side, one in outcomes.items()}, dict(zip("ab", question.spans, strict=True))
    clips = {side: clip_of(folder, pair.case, one) if folder else None for side, one in outcomes.items()}
    differing = dict(zip(order, differences(*(texts[side] for side in order)) or ([], []), strict=True))
    return {
        "id": question.id,
        "task": visible(question.task),
        "round": question.round + 1,
        "instruction": visible(question.asks),
        "case": visible(pair.case.prompt),
        "assisted": assisted,
        "any": question.assistable,
        "opening": 0 if any(clips.values()) else question.opening,
        "sides": [
            {
                "pieces": [
                    {
                        "text": visible(piece.text), "differs": piece.differs,
                        "facts": [f"{i}:{fact}" for fact in piece.facts],
                    }
                    for piece in pieces(texts[side], differing[side], spans[side] if assisted else {})
                ],
                "asked": offered(question.asked, outcomes[side]),
                "own": _typed(outcomes[side]) if "correction" in question.asked else "",
                "answers": [
                    _answer(one, i, spans[side], knowing) | {"moments": _moments(one, clips[side])}
                    for one in answers
                    if one.at.startswith(side)
                ],
                "pictures": {
                    name: _pictures(question, side, with_it, clips[side], folder)
                    for name, with_it in (("alone", False), ("shown", assisted))
                },
            }
            for i, side in enumerate(order)
        ],
    }  # fmt: skip


def _typed(outcome: Outcome) -> str:
    """An outcome's text for whoever corrects it: without what nobody can see, as it would be learned from."""
    return HIDDEN.sub("", outcome.text)


def _pictures(
    question: Question, side: str, assisted: bool, clip: Clip | None, folder: Path | None
) -> list[dict[str, Any]]:
    """Those that the task drew; of an episode each with its step, and else those of its clip."""
    drawn = [
        {"caption": visible(one.caption), "text": visible(one.text)}
        for one in question.pictures(assisted)["ab".index(side)]
    ]
    if clip is None or folder is None:
        return drawn
    if drawn:
        return [one | {"step": step} for one, step in zip(drawn, steps_of(len(drawn), clip.of), strict=True)]
    return [
        {"caption": visible(one.caption), "text": visible(one.text), "step": one.step}
        | ({"image": url("r", folder.resolve().name, "film", clip.case, clip.outcome, f"{i}.png")} if one.image else {})
        for i, one in enumerate(clip.frames)
    ]


def _moments(one: Said, clip: Clip | None) -> list[dict[str, Any]]:
    """The steps of an episode that an answer names, for the time line."""
    if clip is None or one.answer is None:
        return []
    told = [(f.fact, f.holds, f.note) for f in one.answer.findings]
    found = moments(one.by.name, told, one.answer.outcome.shown, clip.of)
    return [{"step": m.step, "holds": m.holds, "words": visible(m.words)} for m in found]


def _answer(one: Said, side: int, spans: Spans, knowing: Set[str]) -> dict[str, Any]:
    answer = one.answer
    findings = answer.findings if answer else ()
    pointed = [f for f in findings if not f.holds] or findings
    return {
        "at": one.at,
        "depth": one.depth,
        "name": visible(one.by.name),
        "verdict": one.verdict,
        "accused": visible(", ".join(one.accused)),
        "why": "nothing to judge in this outcome" if answer is None else (
            f"could not be read: {visible(answer.unreadable)}" if answer.unreadable else ""
        ),
        "markable": one.markable,
        "points": [f"{side}:{points(vars(finding), spans)}" for finding in pointed],
        "text": visible(once(one.by.name, answer.outcome.shown) or answer.outcome.shown) if answer else "",
        "confidence": confidence_of(one, knowing),
    }


ROUTES = [
    Route("/label", page),
    Route("/label/next", next_pairs, methods=["POST"]),
    Route("/label/answer", judged, methods=["POST"]),
    Route("/label/undo", undone, methods=["POST"]),
    Route("/label/report", reported, methods=["POST"]),
]
