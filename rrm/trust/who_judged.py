"""Who judged at a node, as a certificate says it: people only where run.db has judgements that they gave here, and how
far they agree only from labels that made these. What was imported is people's by what a file says, which is counted
apart; certificates of before version 3 counted some of it as people's."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from rrm.core.border import plain
from rrm.core.errors import RunError
from rrm.labels.agreement import Estimate, alpha
from rrm.labels.forgetting import named_in
from rrm.labels.questions import Label, LabelError, named
from rrm.labels.queue import Labels
from rrm.trust.shapes import HUMAN
from rrm.trust.statement import VERSION, Figure, Found, Given, Judge, Kind, NotKnown
from rrm.view.reading import NodeView, Reader

CURRENT = "c.task = ? AND NOT EXISTS (SELECT 1 FROM comparisons later WHERE later.supersedes = c.seq)"
"""Comparisons of a node that stand."""
DERIVED = "derived"
"""What a comparison is for that nobody judged."""
ORACLE = "oracle"
"""The user of `rrm.measure.oracle`, who knows the truth: simulated, though its name has no settings."""
PEOPLE = (HUMAN, f"unaided({HUMAN})", f"ally({HUMAN})")
"""Names of users who ask people: also those within which `rrm.measure.users` has them."""
SAID = "imported, said to be by people"
"""What a judge is called whom a file calls people."""
ALONE = "nobody judged what somebody else judged, too"
Judged = Mapping[str, list[tuple[frozenset[str], float | None]]]
"""Pair -> who judged it, of people, and what came of it: once for each time."""


def judges_of(run: Reader, copy: Path, node: NodeView, version: int = VERSION) -> tuple[Judge, ...]:
    """Who judged; people are counted together and not named: a certificate is for strangers. copy: the folder that
    `run` reads. version: of the certificate."""
    counts: Counter[tuple[str, Kind]] = Counter()
    people: set[str] = set()
    old = version < 3
    program, known = _program(run), _known(run, copy) if old else frozenset()
    for user, imported, n in _users(run, node):
        kind = "people" if imported and user in known else _kind(user, imported, program, old)
        name = "people" if kind == "people" else user
        if kind == "imported" and _called_people(user):
            name = SAID
        elif kind == "imported" and named_in(user):
            name = "imported"  # a name that a file gives may be a person's
        counts[name, kind] += n
        if kind == "people":
            people.update(named_in(user))
    agreed: Found = NotKnown(not_known=ALONE)
    if people and (copy / "labels.db").exists():
        agreed = _alpha(run, copy, node.path, program, old)
    nobody = NotKnown(not_known="no people")
    return tuple(
        Judge(
            name=name, kind=kind, judgements=n, people=len(people) if kind == "people" else 0,
            alpha=agreed if kind == "people" else nobody,
        )
        for (name, kind), n in sorted(counts.items())
    )  # fmt: skip


def given_by_people(run: Reader, node: NodeView) -> tuple[Given, Given]:
    """What people judged here, and what a file says that people did; of the latter those are counted whom it names, or
    how many it says there were."""
    program = _program(run)
    rows = [(user, imported, n) for user, imported, n in _users(run, node) if _called_people(user)]
    here = [(user, n) for user, imported, n in rows if _kind(user, imported, program) == "people"]
    said = [(user, n) for user, imported, n in rows if imported]
    most = max((int(user.split()[0]) for user, _ in said if user.endswith(" people")), default=0)
    named, told = ({one for user, _ in some for one in named_in(user)} for some in (here, said))
    return (
        Given(judgements=sum(n for _, n in here), people=len(named)),
        Given(judgements=sum(n for _, n in said), people=max(most, len(told))),
    )


def imported_as_people(run: Reader, copy: Path, node: NodeView) -> int:
    """How many imported judgements a certificate of before version 3 counts as people's."""
    program, known = _program(run), _known(run, copy)
    return sum(
        n for user, imported, n in _users(run, node)
        if imported and (user in known or _kind(user, True, program, old=True) == "people")
    )  # fmt: skip


def _users(run: Reader, node: NodeView) -> list[tuple[str, bool, int]]:
    """User, whether it was imported, and how many judgements of a node stand."""
    query = (
        f"SELECT c.user, c.round < 0, COUNT(*) FROM comparisons c WHERE {CURRENT} AND c.purpose != ?"
        " GROUP BY c.user, c.round < 0"
    )
    return [(str(user), bool(imported), int(n)) for user, imported, n in run.rows(query, (node.path, DERIVED))]


def _called_people(user: str) -> bool:
    """Whether a judgement's user is called as people are."""
    return re.fullmatch(r"human(\(.{0,200}\))?|\d{1,9} people", user, re.DOTALL) is not None


def _program(run: Reader) -> str:
    """Who judged by the run's configuration, where that is a program; empty of people, and where it does not say."""
    user = run.config.get("user")
    name = str(user.get("name", "")) if isinstance(user, Mapping) else ""
    return "" if name in PEOPLE else name


def _known(run: Reader, copy: Path) -> frozenset[str]:
    """Who gave labels in a run's labels.db, and is named by a judgement of people in run.db: an imported judgement of
    this name is theirs."""
    if not (copy / "labels.db").exists():
        return frozenset()
    with closing(sqlite3.connect(copy / "labels.db")) as db:
        labelers = {name for (name,) in db.execute("SELECT DISTINCT labeler FROM labels")}
    users = run.rows("SELECT DISTINCT user FROM comparisons WHERE round >= 0")
    program = _program(run)
    judged = {name for (user,) in users if _kind(user, False, program) == "people" for name in named_in(user)}
    return frozenset(labelers & judged)


def _kind(user: str, imported: bool, program: str, old: bool = False) -> Kind:
    """People only where that is sure: people were to judge the run, and did here. A name that an imported file gives
    says nothing of whose it is; one without parentheses is a program's that is not rrm's, and so is one like people's
    in a run that a program was to judge. old: as of certificates of before version 3, to which what was imported as
    people's was theirs."""
    if _called_people(user):
        return ("people" if old else "imported") if imported else "other" if program else "people"
    if re.match(r"(?:model|openai|endpoint)\(", user):
        return "model"
    if user.startswith("imported(") or (imported and named_in(user)):
        return "imported"
    return "other" if named_in(user) and user != ORACLE else "simulated"


def _alpha(run: Reader, copy: Path, task: str, program: str, old: bool) -> Found:
    with closing(Labels(copy)) as queue:
        cases, pairs, labels = queue.cases(), queue.pairs(), queue.labels()
    found: Estimate = alpha([*_that_made(labels, pairs, _judged(run, task, program, old), task)], cases).ordinal
    if math.isnan(found.value):
        return NotKnown(not_known=ALONE)
    low, high = (None if math.isnan(one) else one for one in (found.low, found.high))
    return Figure(value=found.value, low=low, high=high, n=found.n, cases=found.cases)


def _judged(run: Reader, task: str, program: str, old: bool) -> Judged:
    found: dict[str, list[tuple[frozenset[str], float | None]]] = defaultdict(list)
    query = f"SELECT c.pair, c.user, c.preference, c.round < 0 FROM comparisons c WHERE {CURRENT} AND c.purpose != ?"
    for pair, user, preference, imported in run.rows(query, (task, DERIVED)):
        if _kind(user, bool(imported), program, old) == "people":
            found[pair].append((frozenset(named_in(user)), preference))
    return found


def _that_made(
    labels: list[Label], pairs: Mapping[str, tuple[str, str]], judged: Judged, task: str
) -> Iterator[Label]:
    """The labels of a node's questions that made a judgement of run.db: by those whom it names, of that pair, and with
    its preference as their mean. Others came after it, or somebody invented them."""
    asked: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        asked[label.question].append(label)
    for question, own in asked.items():
        node, pair = pairs.get(question, ("", ""))
        for people, preference in judged.get(pair, ()) if node == task else ():
            theirs = [label for label in own if label.labeler in people]
            given = [label.preference for label in theirs if label.preference is not None]
            if given and preference is not None and math.isclose(sum(given) / len(given), preference, abs_tol=1e-9):
                yield from theirs
                break


def only_people(copy: Path) -> None:
    """Raise `RunError` if a copy's labels.db has a labeler of a name that `rrm label` takes from nobody."""
    if not (copy / "labels.db").exists():
        return
    with closing(sqlite3.connect(copy / "labels.db")) as db:
        labelers = [name for (name,) in db.execute("SELECT DISTINCT labeler FROM labels")]
    for name in labelers:
        try:
            good = isinstance(name, str) and named(name) == name
        except LabelError:
            good = False
        if not good:
            said = plain(json.dumps(name, default=repr), 60)
            raise RunError(f"labels.db has labels of {said}, a name that rrm label takes from nobody: it was changed")
