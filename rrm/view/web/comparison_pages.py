"""The pages of one comparison, and of one assistant's answer in it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rrm.view import comparisons as judged
from rrm.view import lists
from rrm.view.aligned import align
from rrm.view.attributions import attributed
from rrm.view.checked import shown_checks
from rrm.view.clips import clips_of, moments_of
from rrm.view.pictures import framed, seen
from rrm.view.reading import Reader
from rrm.view.truth import true_sides
from rrm.view.user_notes import named_note
from rrm.view.web.diff import differences, pieces
from rrm.view.web.rendering import reader, render


def comparison(request: Request) -> Response:
    """A comparison whole, with the words marked that differ between A and B, and under them, a row for each assistant,
    what it said of both. 404 if there is none of this number."""
    with reader(request) as run:
        c = _comparison(run, request)
        marked = differences(c.a.text, c.b.text)
        sides = []
        for name, side, changed, drawn, clip in zip(
            ("A", "B"), (c.a, c.b), marked or ((), ()), seen(run, c), clips_of(run, c), strict=True
        ):
            shown = pieces(side.text, changed, side.spans)
            sides.append({
                "name": name, "key": name.lower(), "side": side, "pieces": shown, "accused": _accused(side),
                "clip": clip, "frames": framed(drawn, clip),
                "moments": moments_of(side.answers, clip.of) if clip else (),
            })  # fmt: skip
        beside = [
            run.row(f"SELECT {f}(seq) FROM comparisons WHERE task = ? AND seq {sign} ?", (c.task, c.seq))[0]
            for f, sign in (("MAX", "<"), ("MIN", ">"))
        ]
        return render(
            request, "comparison.html", run=run, c=c, sides=sides, marked=marked is not None, beside=beside,
            verdict=judged.verdict, played=any(one["frames"] for one in sides),
            instruction=run.nodes[c.task].instruction if c.task in run.nodes else "",
            moved=attributed(run, c.task, c.pair),
            truth=true_sides(run, c.task, c.case_blob, (c.a.blob, c.b.blob)), rows=align(c.a.answers, c.b.answers),
            noted=named_note(c.user, c.note), checks=shown_checks(c.checks, c.task),
        )  # fmt: skip


def answer(request: Request) -> Response:
    """An assistant's own outcome, what was said of it, and what trained the assistant."""
    with reader(request) as run:
        c = _comparison(run, request)
        side = c.a if request.path_params["side"] == "a" else c.b
        chain = judged.follow(side.answers, request.path_params["way"])
        if not chain:
            raise HTTPException(404, "This comparison has no such answer.")
        until = judged.trained_before(run, c.task, chain[0].assistant, chain[0].version, chain[-1].assistant)
        here = chain[-1]
        trained = lists.find(run, here.assistant, before=until, limit=5) if until else None
        spans = side.spans
        return render(
            request, "answer.html", run=run, c=c, side=request.path_params["side"], outcome=side, chain=chain,
            here=here, pieces=pieces(side.text, (), spans), until=until, trained=trained, verdict=judged.verdict,
            accused={judged.points(finding, spans) for finding in here.wrong}, node=run.nodes.get(here.assistant),
        )  # fmt: skip


def _accused(side: judged.Side) -> set[str]:
    """Located facts that an assistant, anywhere below, calls wrong: the part it points at where there is one."""

    def of(answers: Sequence[judged.ShownAnswer]) -> set[str]:
        here = {judged.points(finding, side.spans) for one in answers for finding in one.wrong}
        return here.union(*(of(one.below) for one in answers))

    return of(side.answers)


def _comparison(run: Reader, request: Request) -> judged.ShownComparison:
    seq = request.path_params["seq"]
    found = judged.comparison(run, seq) if seq < 2**63 else None  # SQLite's largest number
    if found is None:
        raise HTTPException(404, f"{run.title} has no comparison {seq}.")
    return found


ROUTES = [
    Route("/r/{run}/c/{seq:int}", comparison),
    Route("/r/{run}/c/{seq:int}/{side:str}/{way:str}", answer),
]
