"""The page of what an agent writes, round by round: `rrm.view.agent_outcomes`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rrm.view.agent_outcomes import beside, in_short, produced, rounds_with, with_answers
from rrm.view.truth import attached
from rrm.view.web.rendering import node_of, reader, render, round_number, url, whole_number

PAGE = 50


def outcomes(request: Request) -> Response:
    """A round's outcomes by score, the newest round's unless another is asked for; with `beside` the best of two
    rounds, case by case. 404 if the run has no such node."""
    asked = request.query_params
    with reader(request) as run:
        here = node_of(run, request)
        rounds = rounds_with(run, here.path)
        wanted, other = (round_number(asked.get(name)) for name in ("round", "beside"))
        round = wanted if wanted in rounds else rounds[-1] if rounds else 0
        found = produced(run, here.path, round)
        pairs = None
        if other in rounds and other is not None:
            pairs = beside(found, found if other == round else produced(run, here.path, other))
        after = min(whole_number(asked.get("after")) or 0, len(found))
        place, given = ("r", run.name, "outcomes", here.path), {"round": round if wanted in rounds else None}
        return render(
            request, "outcomes.html", run=run, node=here, rounds=rounds, round=round, other=other, pairs=pairs,
            outcomes=with_answers(run, found[after : after + PAGE]) if pairs is None else (), short=in_short(found),
            truth=attached(run),
            earlier=url(*place, after=max(0, after - PAGE), **given) if after else None,
            later=url(*place, after=after + PAGE, **given) if after + PAGE < len(found) else None,
        )  # fmt: skip


ROUTES = [Route("/r/{run}/outcomes/{task:path}", outcomes)]
