"""Take a person's name out of a run, and their labels back if they wish; and say what rested on those.

The one thing that rewrites what is append-only otherwise. A name is replaced by a pseudonym that says nothing of it
wherever the run's databases have it: with each judgement, label and remark, and as a word of any note. The bytes are
gone, too: the databases are written anew. Labels and remarks are taken back by rows that supersede them, so what was
there can still be told. Outcomes are not looked into, what a person wrote as a correction among them.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from rrm.core.judgements import Check, Judgement
from rrm.core.remarks import Remark
from rrm.labels.questions import Label, LabelError, Question, combine
from rrm.labels.queue import ASKED, Labels
from rrm.labels.remarking import Sides, read, written
from rrm.labels.rows import LABEL, QUESTION, label_of, question_of, take_back, within
from rrm.store import encoding
from rrm.store.config import read_config
from rrm.store.store import Store, remark_name

PSEUDONYM = "somebody"
_judgement, _checks, _remark = TypeAdapter(Judgement), TypeAdapter(tuple[Check, ...]), TypeAdapter(Remark)


@dataclass(frozen=True)
class Forgotten:
    """What was done, and what it means for the run."""

    pseudonym: str
    """What stands in the name's place."""
    judgements: Mapping[tuple[str, int], int]
    """(node, round) -> judgements that this person's labels are in."""
    withdrawn: bool
    abstained: int
    """Of those, the ones of which nobody else's label is left."""
    mixed: int
    """Imported means of several people's votes, in which this person's cannot be told from the others'."""
    learned: Sequence[tuple[str, int, str]]
    """(node, round, part) of weights that were learned from them: reward, agent, candidate."""
    above: Sequence[str]
    """Nodes that were judged with the help of those nodes' agents."""
    remarks: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """(node, round) -> what they said of one outcome alone: ratings, corrections, demonstrations."""

    def lines(self, run: Path) -> list[str]:
        """In words, for the terminal."""
        total = sum(self.judgements.values())
        where = ", ".join(f"{node} {_round(round)}: {n}" for (node, round), n in sorted(self.judgements.items()))
        kept = "taken back" if self.withdrawn else "kept"
        out = [f"The name is out of {run}; {self.pseudonym!r} stands in its place."]
        out.append(f"{total} judgements were theirs, and are {kept} ({where})" if total else "No judgement was theirs.")
        if said := sum(self.remarks.values()):
            where = ", ".join(f"{node} {_round(round)}: {n}" for (node, round), n in sorted(self.remarks.items()))
            out.append(f"{said} remarks on outcomes were theirs, and are {kept} ({where})")
        if self.mixed:
            out.append(
                f"{self.mixed} imported judgements are means of several people's votes, and stay as they are: to take "
                "theirs out of these, import the file again without them, into a new folder"
            )
        if not ((total or said) and self.withdrawn):
            return out
        if total:
            out.append(f"{total - self.abstained} of them are now what others said, {self.abstained} an abstention")
        rounds: dict[tuple[str, str], list[int]] = {}
        for node, round, part in self.learned:
            rounds.setdefault((node, part), []).append(round + 1)
        for (node, part), found in sorted(rounds.items()):
            out.append(f"rests on them: {node}: the {part}'s weights of rounds {', '.join(map(str, sorted(found)))}")
        if self.above and self.learned:
            above = ", ".join(self.above)
            out.append(f"rests on them: what was judged with that help, and learned from it, at {above}")
        if self.learned:
            out.append("rests on them: whatever was measured, exported or certified of these")
            out.append(
                "To train without them: a folder with what is left, `rrm export RUN -o left.jsonl` and `rrm import "
                "left.jsonl --out NEW` (and, of what was imported of outcomes alone, the same with `--as remarks`), "
                "and then the same `rrm train` with --out NEW"
            )
        return out


def _round(round: int) -> str:
    return f"round {round + 1}" if round >= 0 else "imported"


def people(folder: Path) -> dict[str, int]:
    """Who has judged in a run -> judgements that they are in, or outcomes of which they alone said something. Simulated
    users and models are none of them, nor is the program that the run's config.json names as its user."""
    program = read_config(folder).get("user", {}).get("name", "")
    counts: dict[str, set[tuple[str, int, str]]] = {}
    store = Store(folder / "run.db")
    try:
        with store._reading():
            rows = store._db.execute("SELECT DISTINCT user, task, round, pair FROM comparisons").fetchall()
            rows += store._db.execute(
                "SELECT DISTINCT COALESCE(NULLIF(json_extract(body, '$.by'), ''), user), task, round, pair FROM remarks"
            ).fetchall()
    finally:
        store.close()
    if (folder / ASKED / "labels.db").exists():
        with closing(Labels(folder / ASKED)) as audited, audited._reading():
            said = audited._db.execute("SELECT labeler, question FROM current").fetchall()
        for name, question in said:
            counts.setdefault(name, set()).add((str(ASKED), 0, question))
    for user, *judged in rows:
        for name in named_in(user) if user != program else ():
            counts.setdefault(name, set()).add(tuple(judged))  # once, though it may have been judged anew
    return {name: len(found) for name, found in counts.items()}


def named_in(user: str) -> list[str]:
    """The people in the name of a comparison's user: "human(Ann, Ben)"; an imported one is its own. So is that of a
    program without settings, which the name alone does not tell from a person's."""
    if (several := re.fullmatch(r"human\((.*)\)", user, re.DOTALL)) is not None:
        return several[1].split(", ") if several[1] else []
    return [] if re.fullmatch(r"(?<!\w)(?:\w++\(.*\)|human|\d++ people)", user, re.DOTALL) else [user]


def forget(folder: Path, name: str, labels: Literal["keep", "withdraw"]) -> Forgotten:
    """Replace the name, wherever the run has it, and keep its labels or take them back.

    A name is the same however its letters are composed (Unicode's NFC). Only for whoever is alone in writing to the
    run. A second time, after an interruption, it does the rest. Raises `LabelError` if nobody of this name is there.
    """
    queue, audited = (Labels(one) if (one / "labels.db").exists() else None for one in (folder, folder / ASKED))
    store = Store(folder / "run.db")
    try:
        with store._reading():
            users = [
                user for (user,) in store._db.execute(
                    "SELECT user FROM comparisons UNION SELECT user FROM remarks"
                    " UNION SELECT COALESCE(json_extract(body, '$.by'), '') FROM remarks"
                )
            ]  # fmt: skip
        known = ({one for user in users for one in named_in(user)} | _labelers(queue) | _labelers(audited)) - {""}
        name = next((one for one in sorted(known) if name not in known and _composed(one) == _composed(name)), name)
        if name not in known:
            listed = ", ".join(sorted(known)) or "nobody"
            raise LabelError(f"{folder}: nobody of the name {name!r} has judged there; there are: {listed}")
        own = _own(queue, name)
        taken = _Names(name, _pseudonym(known), frozenset(known))
        found, abstained, mixed, said = _in_store(store, queue, own, taken, labels == "withdraw")
        if queue is not None:
            _in_labels(queue, own, taken, labels == "withdraw")
        if audited is not None:
            _in_labels(audited, _own(audited, name), taken, labels == "withdraw")
        learned = _learned(store, [*found, *said])
        above = _above(store, {node for node, *_ in learned})
        return Forgotten(taken.new, found, labels == "withdraw", abstained, mixed, learned, above, said)
    finally:
        store.close()
        for one in (queue, audited):
            if one is not None:
                one.close()


@dataclass(frozen=True)
class _Names:
    """A name, and what is put in its place."""

    old: str
    new: str
    known: frozenset[str] = frozenset()
    """Everybody's: a name is not looked for within another's ("Ann" in "Ann-Marie")."""

    def text(self, text: str) -> str:
        """A note with the name, where it stands as a word, replaced, however its letters are composed."""
        forms = {self.old, *(unicodedata.normalize(form, self.old) for form in ("NFC", "NFD"))}
        others = {one for one in self.known if len(one) > len(self.old)} - forms
        names = "|".join(map(re.escape, sorted(forms | others, key=len, reverse=True)))
        return re.sub(rf"(?<!\w)(?:{names})(?!\w)", lambda one: self.new if one[0] in forms else one[0], text)

    def user(self, user: str) -> str:
        """A comparison's user, the name in it replaced."""
        if self.old not in named_in(user):
            return user
        people = [self.new if one == self.old else one for one in named_in(user)]
        return self.new if user == self.old else f"human({', '.join(people)})"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _pseudonym(known: set[str]) -> str:
    """One that nobody has, and that does not hang on the name: a hash of it could be tried out."""
    n = 1
    while f"{PSEUDONYM} {n}" in known:
        n += 1
    return f"{PSEUDONYM} {n}"


def _labelers(queue: Labels | None) -> set[str]:
    if queue is None:
        return set()
    with queue._reading():
        return {one for (one,) in queue._db.execute(
            "SELECT labeler FROM labels UNION SELECT labeler FROM claims UNION SELECT labeler FROM controls"
        )}


def _own(queue: Labels | None, name: str) -> set[int]:
    """This person's labels, by number."""
    if queue is None:
        return set()
    with queue._reading():
        return {seq for (seq,) in queue._db.execute("SELECT seq FROM labels WHERE labeler = ?", (name,))}


# --- run.db ------------------------------------------------------------------------------------------


def _in_store(
    store: Store, queue: Labels | None, own: set[int], taken: _Names, withdraw: bool
) -> tuple[dict[tuple[str, int], int], int, int, dict[tuple[str, int], int]]:
    """(node, round) -> judgements with their label, how many of these became abstentions, how many means hold a vote of
    theirs, and (node, round) -> their remarks."""
    found: dict[tuple[str, int], int] = {}
    abstained = mixed = 0
    with store.rewriting(("comparisons", "remarks")):
        rows = store._db.execute(
            "SELECT seq, task, round, pair, user, note FROM comparisons c WHERE NOT EXISTS"
            " (SELECT 1 FROM comparisons later WHERE later.supersedes = c.seq)"
        ).fetchall()
        for seq, task, round, pair, user, note in rows:
            if taken.old not in named_in(user):
                mixed += taken.text(note) != note and not user.startswith("human")
                continue
            found[task, round] = found.get((task, round), 0) + 1
            if withdraw:
                left = _left(queue, own, task, round, pair) or Judgement(None, by=f"human({taken.new})", seconds=0.0)
                abstained += left.preference is None
                _supersede(store, seq, left, taken)
        for seq, user, note in store._db.execute("SELECT seq, user, note FROM comparisons").fetchall():
            if (new := (taken.user(user), taken.text(note))) != (user, note):
                store._db.execute("UPDATE comparisons SET user = ?, note = ? WHERE seq = ?", (*new, seq))
        said = _in_remarks(store, taken, withdraw)
    return found, abstained, mixed, said


def _in_remarks(store: Store, taken: _Names, withdraw: bool) -> dict[tuple[str, int], int]:
    """(node, round) -> their remarks that stood. A row without a kind stands for one that is taken back."""
    found: dict[tuple[str, int], int] = {}
    db = store._db
    columns = [name for _, name, *_ in db.execute("PRAGMA table_info(remarks)") if name != "seq"]
    rows = db.execute(
        "SELECT seq, task, round, user, body FROM remarks r WHERE kind != '' AND NOT EXISTS"
        " (SELECT 1 FROM remarks later WHERE later.supersedes = r.seq)"
    ).fetchall()
    for seq, task, round, user, body in rows:
        if named_in(_remark.validate_json(body).by or user) != [taken.old]:
            continue
        found[task, round] = found.get((task, round), 0) + 1
        if withdraw:
            values = ", ".join({"kind": "''", "supersedes": "seq"}.get(name, name) for name in columns)
            db.execute(
                f"INSERT INTO remarks ({', '.join(columns)}) SELECT {values} FROM remarks WHERE seq = ?"
                " ON CONFLICT DO NOTHING", (seq,)
            )  # fmt: skip
    for seq, side, user, body in db.execute("SELECT seq, side, user, body FROM remarks").fetchall():
        old = _remark.validate_json(body)
        new = _of_remark(old, taken)
        if (new, taken.user(user)) != (old, user):
            body = encoding.written(_remark, new)
            # its name, a hash of what it says, could be tried out, too
            db.execute(
                "UPDATE OR REPLACE remarks SET user = ?, body = ?, name = ? WHERE seq = ?",
                (taken.user(user), body, remark_name(side, new, taken.user(user)), seq),
            )
    return found


def _of_remark(one: Remark, taken: _Names) -> Remark:
    return replace(one, by=taken.user(one.by), text=taken.text(one.text))


def _of_sides(sides: Sides, taken: _Names) -> Sides:
    a, b = (tuple(_of_remark(one, taken) for one in side) for side in sides)
    return a, b


def _left(queue: Labels | None, own: set[int], task: str, round: int, pair: str) -> Judgement | None:
    """What the others' labels of a pair say together, of those that training used; None if there are none."""
    if queue is None:
        return None
    with queue._reading():
        row = queue._db.execute(
            f"SELECT {QUESTION}, c.labels FROM questions q JOIN closed c ON c.question = q.id"
            " WHERE task = ? AND round = ? AND pair = ? AND c.reason = 'judged' ORDER BY q.seq DESC LIMIT 1",
            (task, round, pair),
        ).fetchone()
        return None if row is None else _without(queue, question_of(row[:-1]), row[-1], own)


def _without(queue: Labels, question: Question, used: str, own: set[int]) -> Judgement | None:
    """The judgement of a question from the labels that were used, JSON of their numbers, but for these."""
    seqs = [seq for seq in TypeAdapter(list[int]).validate_json(used) if seq not in own]
    rows = within(queue._db, f"SELECT {LABEL} FROM labels WHERE seq IN", [str(seq) for seq in seqs])
    labels: list[Label] = sorted(map(label_of, rows), key=lambda label: label.seq)
    return combine(question.pair, labels) if labels else None


def _supersede(store: Store, seq: int, left: Judgement, taken: _Names) -> None:
    """A row in the place of another: the same pair, otherwise judged."""
    columns = [name for _, name, *_ in store._db.execute("PRAGMA table_info(comparisons)") if name != "seq"]
    query = f"SELECT {', '.join(columns)} FROM comparisons WHERE seq = ?"
    row = dict(zip(columns, store._db.execute(query, (seq,)).fetchone(), strict=True)) | {
        "supersedes": seq, "preference": left.preference, "user": left.by, "seconds": left.seconds or 0.0,
        "note": taken.text(left.note), "checks": encoding.dumped(_checks, left.checks),
    }  # fmt: skip
    marks = ", ".join("?" * len(columns))
    store._db.execute(f"INSERT INTO comparisons ({', '.join(columns)}) VALUES ({marks})", list(row.values()))


# --- labels.db ---------------------------------------------------------------------------------------


def _in_labels(queue: Labels, own: set[int], taken: _Names, withdraw: bool) -> None:
    with queue.rewriting(("labels", "closed", "controls", "control_labels")):
        db = queue._db
        if withdraw:
            current = db.execute("SELECT seq, question FROM current WHERE labeler = ?", (taken.old,)).fetchall()
            for seq, question in current:
                take_back(db, "labels", str(uuid.uuid4()), question, taken.new, queue._stamp(question), seq)
            _judge_anew(queue, own, taken)
            for seq, question in db.execute(
                "SELECT seq, question FROM current_controls WHERE labeler = ?", (taken.old,)
            ).fetchall():
                take_back(db, "control_labels", str(uuid.uuid4()), question, taken.new, queue._stamp(question), seq)
        for table in ("labels", "controls", "control_labels"):
            db.execute(f"UPDATE {table} SET labeler = ? WHERE labeler = ?", (taken.new, taken.old))
        db.execute("DELETE FROM claims WHERE labeler = ?", (taken.old,))
        changes: tuple[tuple[str, str, str, Callable[[str], str]], ...] = (
            ("labels", "note", "seq", taken.text),
            ("labels", "remarks", "seq", lambda body: written(_of_sides(read(body), taken))),
            ("control_labels", "note", "seq", taken.text),
            ("control_labels", "remarks", "seq", lambda body: written(_of_sides(read(body), taken))),
            ("closed", "judgement", "question", lambda body: _renamed(body, taken)),
        )
        for table, column, key, change in changes:
            for id, text in db.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                if (new := change(text)) != text:
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new, id))


def _renamed(body: str, taken: _Names) -> str:
    """A judgement as JSON, the name in it replaced."""
    judgement = _judgement.validate_json(body)
    a, b = _of_sides((judgement.remarks_a, judgement.remarks_b), taken)
    new = replace(
        judgement, by=taken.user(judgement.by), note=taken.text(judgement.note), remarks_a=a, remarks_b=b
    )  # fmt: skip
    return body if new == judgement else encoding.dumped(_judgement, new)


def _judge_anew(queue: Labels, own: set[int], taken: _Names) -> None:
    """Judgements that training took and may not have kept yet: without these labels, too."""
    rows: list[Any] = queue._db.execute(
        f"SELECT {QUESTION}, c.labels FROM questions q JOIN closed c ON c.question = q.id WHERE c.reason = 'judged'"
    ).fetchall()
    for row in rows:
        question, used = question_of(row[:-1]), TypeAdapter(list[int]).validate_json(row[-1])
        if own & {*used}:
            left = _without(queue, question, row[-1], own) or Judgement(None, by=f"human({taken.new})", seconds=0.0)
            queue._db.execute(
                "UPDATE closed SET judgement = ? WHERE question = ?", (encoding.dumped(_judgement, left), question.id)
            )


# --- what rests on it --------------------------------------------------------------------------------


def _learned(store: Store, found: Iterable[tuple[str, int]]) -> list[tuple[str, int, str]]:
    """Weights that were learned from a node's judgements: of their round, and of all later ones."""
    first: dict[str, int] = {}
    for node, round in found:
        first[node] = min(round, first.get(node, round))
    saved = [(node, round, part) for node in first for round, part in store.checkpoints(node)]
    return sorted(one for one in saved if one[1] >= first[one[0]])


def _above(store: Store, nodes: set[str]) -> list[str]:
    """The nodes above these that have judgements."""
    return sorted({task for task, _ in store.rounds() if any(node.startswith(f"{task}/") for node in nodes)} - nodes)
