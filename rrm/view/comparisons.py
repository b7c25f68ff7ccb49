"""What a run's comparisons say: one comparison whole, and every assistant's answer in it. Lists: `rrm.view.lists`.

Nothing here takes long, whatever the run's size: texts are cut when they are read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from rrm.core.judgements import ACCEPT
from rrm.core.parts import CUT, NAME, around
from rrm.core.records import rendering
from rrm.view.reading import Reader
from rrm.view.said_once import once
from rrm.view.spoken import ShownRemark, remarks_beside

SHOWN = 20_000
"""Characters of a text shown on a page; the whole is a link away."""
BEGINNING = re.compile(r'\{"(?:text|prompt)":"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)("?)')
"""The text at the beginning of a record's JSON, as far as it was read, and the quote that closes it if it was too."""
PARTS = (
    "EXISTS (SELECT 1 FROM blobs p WHERE p.id = c.case_id AND CASE WHEN instr(p.body, '\"cut_of\"')"
    " THEN json_extract(p.body, '$.data.cut_of') IS NOT NULL END)"
)
"""Whether comparison `c` is of parts of outcomes (`rrm.core.parts`), in SQL. Cases may be long, and are parsed only if
they say the word."""
CASES_OF_PARTS = (
    "SELECT p.id FROM blobs p WHERE p.id IN (SELECT case_id FROM comparisons WHERE task = :task)"
    " AND CASE WHEN instr(p.body, '\"cut_of\"') THEN json_extract(p.body, '$.data.cut_of') IS NOT NULL END"
)
"""The cases of a task's comparisons of parts, in SQL with the task as `:task`: where all of its comparisons are looked
at, each case is read once and not for every comparison of it."""
ACCEPTING = (
    "EXISTS (SELECT 1 FROM checkpoints k WHERE k.task = c.task AND k.round = c.round AND k.part = 'reward'"
    " AND k.at <= c.at)"
)
"""What is judged in a round after its fit is whether its improvement stands; older runs say it in no other way."""


@dataclass(frozen=True)
class ShownAnswer:
    """An answer of an assistant about an outcome, and the way to it: "2.0" is the third assistant's first answer."""

    way: str
    assistant: str
    version: str
    case: str
    text: str
    cut: bool
    findings: Sequence[Mapping[str, Any]]
    confidence: float | None
    """How it ranks among the outcomes that its reward model was fitted to; None while that knows too little."""
    unreadable: str
    below: Sequence[ShownAnswer] = ()

    @property
    def name(self) -> str:
        """The last part of the assistant's path."""
        return self.assistant.rsplit("/", 1)[-1]

    @property
    def verdict(self) -> str:
        """yes, no, or N/A: nothing to judge, or nothing readable."""
        if not self.findings:
            return "N/A"
        return "no" if self.wrong else "yes"

    @property
    def wrong(self) -> list[Mapping[str, Any]]:
        """The findings that something does not hold."""
        return [finding for finding in self.findings if not finding["holds"]]

    @property
    def said(self) -> str:
        """Its text, without what its name and verdict say beside it."""
        return once(self.name, self.text)

    @property
    def unsaid(self) -> list[str]:
        """What does not hold, by name, where neither the assistant's own name nor its text says it."""
        told = {self.name} | {line.partition(":")[0] for line in self.said.splitlines()}
        wrong = (f"{f['fact']}" if f["part"] is None else f"{f['fact']}.{f['part']}" for f in self.wrong)
        return [name for name in wrong if name not in told]

    @property
    def reward(self) -> float | None:
        """The assistant's own reward model's score, of which `confidence` is the logistic."""
        if self.confidence is None or not 0 < self.confidence < 1:
            return None
        return math.log(self.confidence / (1 - self.confidence))

    @property
    def depth(self) -> int:
        """0 for the judged task's own assistants, 1 for theirs, and so on."""
        return self.way.count(".") // 2


@dataclass(frozen=True)
class Side:
    """One outcome of a comparison, and what was said of it. `text`: as it is shown; `cut`: it goes on."""

    text: str
    cut: bool
    blob: str
    finished: bool
    answers: Sequence[ShownAnswer]
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    remarks: Sequence[ShownRemark] = ()
    """What the user said of this outcome alone."""
    around: tuple[str, str] = ("", "")
    """Of a part of an outcome, what stands before and behind it in that, which the user did not see."""


@dataclass(frozen=True)
class ShownComparison:
    """One comparison whole. Texts are cut (`case_cut`); the whole of each is under its `blob`. `shown`: (path, version)
    of each assistant whose assistance the user saw. `at`: seconds since 1970. `stale`: an assistant was trained again
    since."""

    seq: int
    task: str
    round: int
    position: int
    pair: str
    case: str
    case_cut: bool
    case_blob: str
    data: str
    a: Side
    b: Side
    shown: Sequence[tuple[str, str]]
    user: str
    preference: float | None
    checks: Sequence[Mapping[str, Any]]
    attention: int
    note: str
    seconds: float
    at: float
    supersedes: int | None
    superseded_by: int | None
    stale: bool
    scores: Sequence[tuple[int, float, float, bool]]
    """(round, margin, its deviation over heads, held out from that fit): the reward model's view, fit by fit."""
    accept: bool = False
    """Whether it was asked to decide if an improvement stands."""
    part: str | None = None
    """What the parts of outcomes are called that were compared; empty for those that an agent cut anywhere. None: whole
    outcomes were."""


def verdict(preference: float | None) -> str:
    """A preference in words."""
    if preference is None:
        return "no judgement"
    return "tie" if preference == 0.5 else ("A" if preference > 0.5 else "B")


def nth(round: int) -> str:
    """A round as people count: from 1; what was imported came before the first."""
    return str(round + 1) if round >= 0 else "imported"


def accepting(run: Reader) -> str:
    """Whether comparison `c` decided if an improvement stands, in SQL."""
    said = any(name == "purpose" for _, name, *_ in run.rows("PRAGMA table_info(comparisons)"))  # not by older runs
    return f"(c.purpose = '{ACCEPT}' OR {ACCEPTING})" if said else ACCEPTING


def retrained(run: Reader, task: str) -> float:
    """When anything below a task was last trained: what was judged earlier with assistance is stale."""
    below = [at for path, saved in run.checkpoints.items() if path.startswith(f"{task}/") for *_, at in saved]
    return max(below, default=0.0)


def start(run: Reader, blob: str, limit: int) -> tuple[str, bool]:
    """The first `limit` characters of a case's prompt or of an outcome as it is shown, and whether it goes on.

    Only the beginning of the record is parsed, unless that shows no text: it may be long, and in SQLite's own
    functions on JSON a text would end at the first NUL.
    """
    row = run.row("SELECT substr(body, 1, ?) FROM blobs WHERE id = ?", (6 * limit + 32, blob))
    if row is None:
        return "", False
    match = BEGINNING.match(row[0])
    if match is None:
        return "", False
    text = json.loads(f'"{match[1]}"', strict=False)
    if not text and match[2]:  # an outcome may be data that nobody described
        text = whole(run, blob) or ""
    return text[:limit], len(text) > limit or not match[2]


def whole(run: Reader, blob: str) -> str | None:
    """A case's prompt or an outcome as it is shown, all of it; None if there is no such blob."""
    row = run.row("SELECT body FROM blobs WHERE id = ? AND substr(body, 1, 1) = '{'", (blob,))
    if row is None:
        return None
    body = json.loads(row[0])
    return rendering(body["text"], body.get("data")) if "text" in body else str(body["prompt"])


def comparison(run: Reader, seq: int, limit: int = SHOWN) -> ShownComparison | None:
    """One comparison whole, its texts cut at `limit` characters; None if there is none with this number."""
    row = run.row(
        "SELECT c.task, c.round, c.position, c.pair, c.case_id, c.a, c.b, c.assistance_a, c.assistance_b, c.shown,"
        " c.user, c.preference, c.checks, c.attention, c.note, c.seconds, c.at, c.supersedes,"
        " (SELECT MIN(later.seq) FROM comparisons later WHERE later.supersedes = c.seq),"
        f" {accepting(run)} FROM comparisons c WHERE c.seq = ?",
        (seq,),
    )
    if row is None:
        return None
    (task, round, position, pair, case, a, b, said_a, said_b, shown, user, preference, checks, attention, note,
     seconds, at, supersedes, superseded_by, accept) = row  # fmt: skip
    (data,) = run.row("SELECT substr(json_extract(body, '$.data'), 1, ?) FROM blobs WHERE id = ?", (limit, case))
    of_part = (
        f"SELECT json_extract(body, '$.data.{NAME}') FROM blobs WHERE id = ? AND"
        f" json_extract(body, '$.data.{CUT}') IS NOT NULL"
    )
    named = run.row(of_part, (case,))
    scores: list[tuple[int, float, float, bool]] = []
    if "scores" in run.tables:
        scores = [
            (r, margin, std, bool(held))
            for r, margin, std, held in run.rows(
                "SELECT round, margin, std, held FROM scores WHERE task = ? AND pair = ? ORDER BY round", (task, pair)
            )
        ]
    told = remarks_beside(run, task, round, pair, limit)
    versions = [(p, v) for p, _, v in (one.partition("@") for one in json.loads(shown))]
    return ShownComparison(
        seq, task, round, position, pair, *start(run, case, limit), case, data or "",
        replace(_side(run, case, a, said_a, limit), remarks=told["a"]),
        replace(_side(run, case, b, said_b, limit), remarks=told["b"]), versions, user, preference,
        json.loads(checks), attention, note, seconds, at, supersedes or None, superseded_by,
        bool(versions) and at < retrained(run, task), scores, bool(accept), named and (named[0] or ""),
    )  # fmt: skip


def _side(run: Reader, case: str, blob: str, assistance: str, limit: int) -> Side:
    (finished,) = run.row("SELECT json_extract(body, '$.finished') FROM blobs WHERE id = ?", (blob,))
    body = run.row("SELECT body FROM blobs WHERE id = ?", (assistance,))
    answers = said(json.loads(body[0]), limit, knowing=run.knowing) if body else ()
    spans: dict[str, tuple[int, int]] = {}
    if "spans" in run.tables:
        spans = {
            fact: (begin, end)
            for fact, begin, end in run.rows(
                "SELECT fact, start, stop FROM spans WHERE case_id = ? AND outcome = ?", (case, blob)
            )
        }
    return Side(
        *start(run, blob, limit), blob, bool(finished), answers, spans, around=_around(run, blob, limit)
    )  # fmt: skip


def _around(run: Reader, blob: str, limit: int) -> tuple[str, str]:
    """What stands before and behind a part in the text that it was cut from, `limit` characters of it at most."""
    (body,) = run.row("SELECT body FROM blobs WHERE id = ?", (blob,))
    outcome = json.loads(body)
    before, after = around(outcome.get("text", ""), outcome.get("data")) or ("", "")
    return before[-limit:], after[:limit]


def said(
    assistance: Sequence[Mapping[str, Any]], limit: int = SHOWN, way: str = "", knowing: Set[str] = frozenset()
) -> list[ShownAnswer]:
    """Assistance as it is stored, as answers; an assistant that had nothing to judge has one without findings.

    `knowing`: the assistants whose confidence is worth showing (`Reader.knowing`).
    """
    found: list[ShownAnswer] = []
    for i, one in enumerate(assistance):
        if not one["answers"]:
            found.append(ShownAnswer(f"{way}{i}.0", one["assistant"], one["version"], "", "", False, (), None, ""))
        for j, answer in enumerate(one["answers"]):
            here = f"{way}{i}.{j}"
            text = rendering(answer["outcome"]["text"], answer["outcome"].get("data"))
            confidence = answer["confidence"] if one["assistant"] in knowing else None
            found.append(
                ShownAnswer(
                    here, one["assistant"], one["version"], answer["case"]["prompt"][:limit], text[:limit],
                    len(text) > limit, answer["findings"], confidence, answer["unreadable"],
                    said(answer["below"], limit, f"{here}.", knowing),
                )
            )  # fmt: skip
    return found


def follow(answers: Sequence[ShownAnswer], way: str) -> list[ShownAnswer]:
    """The answers on the way down to `way`, outermost first; empty if it leads nowhere."""
    chain: list[ShownAnswer] = []
    while not chain or chain[-1].way != way:
        step = next((one for one in answers if way == one.way or way.startswith(f"{one.way}.")), None)
        if step is None:
            return []
        chain.append(step)
        answers = step.below
    return chain


def points(finding: Mapping[str, Any], spans: Mapping[str, tuple[int, int]]) -> str:
    """The name of what a finding points at."""
    part = f"{finding['fact']}.{finding['part']}"
    return part if finding["part"] is not None and part in spans else str(finding["fact"])


def trained_before(run: Reader, task: str, assistant: str, version: str, below: str = "") -> int:
    """The number before which lie the comparisons that trained what answered: `below`, a task under a direct assistant
    of `task` or that assistant itself, as it was behind `version` of it; 0 if none did.

    Its latest fit before that version was first shown is the one that made it. What it was asked after that fit decided
    whether the improvement stands, and trained only what came later.
    """
    row = run.row(
        "SELECT MIN(seq), MIN(at) FROM comparisons WHERE task = ? AND instr(shown, ?)",
        (task, f'"{assistant}@{version}"'),
    )
    if row is None or row[0] is None:
        return 0
    shown, at = row
    path = below or assistant
    fits = [when for _, part, _, _, when in run.checkpoints.get(path, ()) if part == "reward" and when <= at]
    if not fits:
        return int(shown)
    last = run.row(
        "SELECT MAX(seq) FROM comparisons WHERE task = ? AND at < ? AND seq < ?", (path, max(fits), shown)
    )
    return int(last[0]) + 1 if last[0] is not None else 0
