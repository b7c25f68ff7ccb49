"""A finished node as a judge for other programs: `POST /judge` with a prompt and outcomes, and back come rewards, how
sure they are, and what the node's assistants found, with the places in the text.

    {"prompt": "...", "outcomes": ["...", "..."], "data": {...}, "form": ""}

`data` is what the tree's cases hold behind their prompt, where it has any. `POST /examine`, with one outcome or several
of the node's parent, puts the node itself to work as an assistant; `GET /` says what there is. Errors are JSON with
`error`, and a status: 400 what cannot be read, 401 no token, 413 too large, 422 what cannot be judged, 503 too many
waiting.

What comes in while the model computes is asked together, a pass at a time. Nothing is kept but in caches of
bounded size, in memory (`rrm.models.form.KEPT` forms, for one).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rrm.core import border
from rrm.core.errors import RRMError
from rrm.core.protocols import Scores
from rrm.core.records import Answer, Assistance, Case, Finding, Group, Outcome, Spans
from rrm.core.task import Assistant, Task, assist
from rrm.core.verdicts import quotes
from rrm.core.version import VERSION
from rrm.models.reward import TextRewardModel
from rrm.view.web.bearer import BearerGuard, refused
from rrm.view.web.security import Access

LARGEST = 1 << 20
"""Bytes of a request's body."""
OUTCOMES = 64
"""Most outcomes of a request."""
WAITING = 256
"""Most requests that wait; more are told to come again."""
TOGETHER = 16
"""Most requests that are asked in one pass."""


class JudgeRequest(BaseModel):
    """What is asked; nothing else is accepted."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    outcomes: list[str] = Field(min_length=1, max_length=OUTCOMES)
    data: dict[str, Any] = {}
    form: str = Field(default="", max_length=4000)

    def group(self) -> Group:
        """Raises `BorderError` for text that is none."""
        texts = [border.text(text, f"outcomes[{i}]") for i, text in enumerate(self.outcomes)]
        return Group(Case(border.text(self.prompt, "prompt"), self.data, self.form), tuple(map(Outcome, texts)))


class Forgetting:
    """A memo that remembers nothing: a server may run for months."""

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """See `Memo`."""
        return {}

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
        """See `Memo`."""


@dataclass(frozen=True)
class ServedNode:
    """A node that judges.

    Attributes
    ----------
    assistant: the node with what is below it (`rrm.loop.reopen.assistant_of`); None: its reward model alone.
    parent: whose outcomes the node is asked about as an assistant; None at the root.
    """

    run: str
    node: str
    reward: TextRewardModel
    assistant: Assistant | None = None
    parent: Task | None = None

    def about(self) -> dict[str, Any]:
        """What there is."""
        helpers = [one.task.path for one in self.assistant.helpers] if self.assistant else []
        task = self.assistant.task if self.assistant else None
        return {
            "rrm": VERSION, "run": self.run, "node": self.node, "version": self.reward.version,
            "instruction": task.instruction if task else None, "assistants": helpers, "examines": self.examines,
            "knows_assistants": self.reward.assistants, "learned_nothing": self.reward.ignorant,
            "limits": {"body_bytes": LARGEST, "outcomes": OUTCOMES, "tokens": self.reward.backbone.limit},
        }  # fmt: skip

    @property
    def examines(self) -> bool:
        """Whether it can be put to work as an assistant."""
        return self.assistant is not None and self.parent is not None and self.assistant.task.frame is not None

    def judge(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Of each group the answer, as JSON. Raises `RRMError` for one that cannot be judged."""
        with self._forgetting():
            seen = assist(self.assistant.helpers, groups) if self.assistant else list(groups)
            scored = border.scored(self.reward.score(seen), seen, f"{self.node}: the reward model")
        return [self._judged(group, scores) for group, scores in zip(seen, scored, strict=True)]

    def examine(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """What the node says, as an assistant, of outcomes of its parent."""
        assert self.assistant is not None and self.parent is not None  # else there is no such address
        with self._forgetting():
            found = self.assistant.examine(groups)
        return [
            {"node": self.node, "version": self.assistant.version, "outcomes": [
                said_of(one, outcome.text, self.parent.located(group.case, outcome))
                for one, outcome in zip(row, group.outcomes, strict=True)
            ]} for group, row in zip(groups, found, strict=True)
        ]  # fmt: skip

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """One pass is made at a time, and after it nobody has a number of a mask."""
        try:
            yield
        finally:
            self.reward.backbone.forms.forget()

    def _judged(self, group: Group, scores: Scores) -> dict[str, Any]:
        mean, std = scores.mean.tolist(), scores.std.tolist()
        learned = getattr(scores, "unacceptable", None)
        marked = [None] * len(mean) if learned is None else learned.tolist()
        ignorant, caution = self.reward.ignorant, self.reward.settings.caution
        outcomes = []
        for i, outcome in enumerate(group.outcomes):
            spans: Spans = {} if self.assistant is None else self.assistant.task.located(group.case, outcome)
            outcomes.append({
                "reward": mean[i] - caution * std[i], "mean": mean[i], "std": std[i],
                "confidence": None if ignorant else _logistic(mean[i]), "unacceptable": marked[i],
                "malformed": "" if self.assistant is None else self.assistant.task.fault(group.case, outcome),
                "assistance": [said_of(one, outcome.text, spans) for one in group.seen(i)],
            })  # fmt: skip
        answer: dict[str, Any] = {"node": self.node, "version": self.reward.version, "outcomes": outcomes}
        if len(mean) == 2:  # as a pair: the chance that the user prefers the first
            scale = float(self.reward.scale)
            answer["prefers_first"] = None if ignorant else _logistic((mean[0] - mean[1]) * scale)
        return answer


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(min(-x, 700.0)))


def said_of(said: Assistance, text: str, spans: Spans) -> dict[str, Any]:
    """What an assistant said of an outcome, as JSON; each finding with its places in the text, as first character and
    the one after the last: where its fact is, or what its words quote."""
    sure = [answer.confidence for answer in said.answers if answer.confidence is not None]
    return {
        "assistant": said.assistant, "version": said.version, "text": said.text, "na": said.na, "why": said.why,
        "confidence": sum(sure) / len(sure) if sure else None,
        "findings": [
            {"fact": one.fact, "part": one.part, "holds": one.holds, "note": one.note,
             "spans": [list(span) for span in places(one, text, spans)]} for one in said.findings
        ],
    }  # fmt: skip


def places(finding: Finding, text: str, spans: Spans) -> list[tuple[int, int]]:
    """Where a finding points at in a text, each place once."""
    part = f"{finding.fact}.{finding.part}"
    name = part if finding.part is not None and part in spans else finding.fact
    found = [tuple(spans[name])] if name in spans else []
    for quote in () if found else quotes(finding.note):
        if quote and (at := text.find(quote)) >= 0:
            found.append((at, at + len(quote)))
    return [(int(begin), int(end)) for begin, end in dict.fromkeys(found)]


# --- asking together -----------------------------------------------------------------------------------

Judging = Callable[[Sequence[Group]], Sequence[dict[str, Any]]]


class FullError(RRMError):
    """Too many wait already."""


class Batcher:
    """Asks what waits together, one pass at a time: whatever comes in meanwhile is of the next pass.

    A pass that fails, whatever it fails of, is done again one by one: nobody fails for somebody else's text.
    """

    def __init__(self, together: int = TOGETHER, waiting: int = WAITING) -> None:
        self.together, self.waiting = together, waiting
        self.queue: deque[tuple[Judging, Group, asyncio.Future[dict[str, Any]]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, judge: Judging, group: Group) -> dict[str, Any]:
        """The answer of `judge` for a group. Raises `FullError`, or what `judge` raises."""
        if len(self.queue) >= self.waiting:
            raise FullError(f"{self.waiting} requests wait already; come again later")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.queue.append((judge, group, answer))
        self._go_on()
        return await answer

    def _go_on(self, ended: asyncio.Task[None] | None = None) -> None:
        """Have somebody work, if there is something to do; again, where a pass broke off."""
        if self.queue and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._go_on)

    async def _work(self) -> None:
        while self.queue:
            judge = self.queue[0][0]
            some: list[tuple[Group, asyncio.Future[dict[str, Any]]]] = []
            while self.queue and len(some) < self.together and self.queue[0][0] == judge:
                _, group, answer = self.queue.popleft()
                if not answer.done():  # whoever asked may have left
                    some.append((group, answer))
            try:
                await self._pass(judge, some)
            finally:
                for _, answer in some:
                    if not answer.done():
                        answer.set_exception(HTTPException(500, "this failed; the terminal says where"))

    async def _pass(
        self, judge: Judging, some: Sequence[tuple[Group, asyncio.Future[dict[str, Any]]]]
    ) -> None:
        asked = run_in_threadpool(judge, [group for group, _ in some])
        found: Sequence[dict[str, Any]] | BaseException
        (found,) = await asyncio.gather(asked, return_exceptions=True)
        if isinstance(found, BaseException):
            if len(some) > 1:
                for one in some:
                    await self._pass(judge, [one])
                return
            if not isinstance(found, RRMError):  # a mistake, or no memory for this text: it is told, and others go on
                told = {"message": "a request to the judge failed", "exception": found}
                asyncio.get_running_loop().call_exception_handler(told)
                found = HTTPException(500, "this failed; the terminal says where")
            if not some[0][1].done():
                some[0][1].set_exception(found)
            return
        for (_, answer), said in zip(some, found, strict=True):
            if not answer.done():
                answer.set_result(said)


# --- the server ----------------------------------------------------------------------------------------


def create_judge(node: ServedNode, access: Access, together: int = TOGETHER, waiting: int = WAITING) -> Starlette:
    """The app. Its limits: `LARGEST`, `OUTCOMES`, the model's context; `together` and `waiting` as of `Batcher`."""
    batcher = Batcher(together, waiting)

    async def about(request: Request) -> Response:
        return JSONResponse(node.about())

    def answering(judge: Judging) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                group = JudgeRequest.model_validate_json(await request.body()).group()
            except ValidationError as error:
                fault = error.errors()[0]
                where = ".".join(map(str, fault["loc"]))
                return refused(400, f"{where}: {fault['msg']}" if where else str(fault["msg"]))
            except border.BorderError as error:
                return refused(400, str(error))
            try:
                return JSONResponse(await batcher.ask(judge, group))
            except FullError as error:
                answered = refused(503, str(error))
                answered.headers["Retry-After"] = "1"
                return answered
            except RRMError as error:
                return refused(422, str(error))

        return answer

    routes = [Route("/", about), Route("/judge", answering(node.judge), methods=["POST"])]
    if node.examines:
        routes.append(Route("/examine", answering(node.examine), methods=["POST"]))
    return Starlette(
        routes=routes, middleware=[Middleware(BearerGuard, access=access, largest=LARGEST)],
        exception_handlers={HTTPException: _failed},
    )  # fmt: skip


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # it is called for no other
    return refused(error.status_code, error.detail)


def forgetting(assistant: Assistant) -> Assistant:
    """The assistant and all below it, without memory."""
    helpers = tuple(map(forgetting, assistant.helpers))
    return replace(assistant, helpers=helpers, memo=Forgetting())
