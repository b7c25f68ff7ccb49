"""What moved the judgements of a node's reward model: of each comparison, and of all of them together.

Kept are, for pages, the attributions of every comparison (`rrm.view.attributions`), and, for the node's certificate,
how much of the differences each part makes (`rrm.trust.moving`) and what words do (`rrm.trust.word_probe`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.core.errors import ConfigError, RunError
from rrm.core.judgements import Comparison
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.core.shares import Known
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.loop.reopen import as_set, reward_of
from rrm.loop.training import ACTING, maker_of
from rrm.models.attribution import READING, Parts, gradients, less, parts_of
from rrm.models.reward import TextRewardModel
from rrm.store.config import read_config
from rrm.store.files import write_atomically
from rrm.store.journal import Journal
from rrm.trust.exchanging import SAID, WORDS, Exchanged, exchanged
from rrm.trust.machines import this_machine
from rrm.trust.moving import figure, shares, typical
from rrm.trust.shelf import keep, weights_of
from rrm.trust.word_probe import Probed, Seen, probe
from rrm.view.attributions import file_of
from rrm.view.reading import Reader

if TYPE_CHECKING:
    from rrm.acting.step_reward import StepReward

AT_ONCE = 16
"""Comparisons that are scored at once."""
CUT = 80
"""Characters of a piece that are kept."""
LIMITS = {
    "attribution": "what whoever judged went by; that a part is right; why what is read moves the score",
    "words": "whether a word is read where it was not written, or by assistants; that edits leave what is true alone",
}
"""What each of the two does not show."""
OWN, TOLD = "the outcome's own words", "what assistants said, as words"
Done = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is, and of how much."""


@dataclass(frozen=True)
class MovedPiece:
    """A piece of a comparison (`Exchanged`), or a step of an episode, as it is shown."""

    kind: str
    by: str
    a: str
    b: str
    worth: float
    parts: Parts = field(default_factory=dict)
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moved:
    """One comparison: the parts of A's score less B's, in standard deviations, and its pieces, where it was taken
    apart."""

    seq: int
    pair: str
    case: str
    preference: float | None
    parts: Parts
    pieces: tuple[MovedPiece, ...] = ()

    @property
    def difference(self) -> float:
        """A's score less B's."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class NodeExplained:
    """A node's reward model.

    Attributes
    ----------
    shares: of the differences, each part's; they sum to 1. Empty where it scores all alike.
    reading: of the differences in what is read, that of the outcome's own words and that of what assistants said, over
        the comparisons that were taken apart.
    missed: by how much gradient times input misses what is read (root mean squares, as a share of the differences in
        it), over the same; None of none, and of agents that act.
    """

    node: str
    moved: tuple[Moved, ...]
    shares: dict[str, Known]
    reading: dict[str, Known]
    missed: float | None

    @property
    def typical(self) -> float | None:
        """The median size of a difference."""
        found = typical([(one.case, one.parts) for one in self.moved])
        return None if found is None else round(found, 4)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pairs": len(self.moved), "shares": {name: figure(known) for name, known in self.shares.items()},
            "typical_difference": self.typical,
            "reading": {name: figure(known) for name, known in self.reading.items()}, "gradient_misses": self.missed,
        }  # fmt: skip


def explain(
    run: Path, node: str, limit: int = 20, chosen: int | None = None, tree: Task | None = None,
    done: Done = lambda what, n, of: None,
) -> NodeExplained:  # fmt: skip
    """What moved each judgement of a node's newest reward model. It is kept in the run: attributions for the pages, and
    the shares for a certificate. Raises `RunError` for a node without a reward model, or nothing judged.

    Parameters
    ----------
    limit: comparisons that are taken apart, the newest first. The others have their parts.
    chosen: the number of one that is taken apart besides; then nothing is kept for a certificate.
    tree: for agents that act only: whose environments their reward model reads.
    """
    with Reader(run) as reader:
        numbers = {pair: seq for seq, pair in reader.rows("SELECT seq, pair FROM comparisons WHERE task = ?", (node,))}
        judged = _judged(run, node)
        if not judged:
            raise RunError(f"{run}: nothing was judged at {node!r}")
        apart = {one.id for one in judged[-limit:]} if limit else set()
        apart |= {one.id for one in judged if numbers[one.id] == chosen}
        names = next((tuple(x.assistant for x in one.assistance_a) for one in judged if one.assistance_a), ())
        config = read_config(run)
        reward = _reopened(run, node, config, tree)
        if isinstance(reward, TextRewardModel):
            moved, missed = _of_texts(reader, reward, judged, numbers, names, apart, done)
        else:
            moved, missed = _of_episodes(run, reward, judged, numbers, names, apart, done), None
        of_all = shares([(one.case, one.parts) for one in moved])
        found = NodeExplained(node, tuple(moved), of_all, _reading(moved), missed)
        _keep_attributions(reader, node, moved)
        if chosen is None:  # what is picked out says nothing of the rest
            command = f"rrm explain RUN {node} --limit {limit}"
            body = {**found.plain(), "does_not_show": LIMITS["attribution"]}
            keep(reader, node, "interpretability", "attribution", command, body, {"limit": limit}, this_machine())
        return found


def probe_words(
    run: Path, node: str, words: Sequence[str], tree: Task, done: Done = lambda what, n, of: None
) -> list[Probed]:
    """What words do to the scores of a node's reward model (`rrm.trust.word_probe`), kept for its certificate.

    tree: the run's, for the form of its outcomes. Raises `RunError` if it lacks the node, for a reward model that reads
    steps, and for a node without one.
    """
    task = _node(tree, node, run)
    reward = reward_of(run, node)
    seen: dict[tuple[str, str], Seen] = {}
    for one in _judged(run, node):
        for outcome, said in ((one.a, one.assistance_a), (one.b, one.assistance_b)):
            seen.setdefault((one.case.id, outcome.content), (one.case, outcome, said))
    found = probe(reward, task, [*seen.values()], words, lambda n, of: done("outcomes edited", n, of))
    with Reader(run) as reader:
        told = " ".join(f"--word {json.dumps(one.word)}" for one in found)
        body = {"words": [one.plain() for one in found], "does_not_show": LIMITS["words"]}
        command, inputs = f"rrm explain RUN {node} --tree TREE {told}", {"words": [one.word for one in found]}
        keep(reader, node, "interpretability", "words", command, body, inputs, this_machine())
    return found


def _judged(run: Path, node: str) -> list[Comparison]:
    """Each pair once."""
    with closing(Journal(run)) as journal:
        return [*{one.id: one for one in journal.comparisons(node)}.values()]


def _node(tree: Task, node: str, run: Path) -> Task:
    nodes = {one.path: one for one in plant(tree).walk()}
    if node not in nodes:
        raise RunError(f"the tree has no node {node!r} as {run} has; it has {', '.join(nodes)}: give the run's tree")
    return nodes[node]


def _reopened(run: Path, node: str, config: dict[str, Any], tree: Task | None) -> TextRewardModel | StepReward:
    """The newest reward model. One that reads steps is made by its tree, as it must know what is seen there."""
    name = config.get("model", {}).get("name", "").partition(" and ")[0]
    if name.partition("(")[0] not in ACTING:
        return reward_of(run, node)
    if tree is None:
        raise ConfigError(f"{run}: its agents act, so its reward models are made by its tree; give --tree")
    from rrm.acting.step_reward import StepReward

    settings = Settings(**as_set(config["tree"][node]["settings"], {}))
    task = replace(_node(tree, node, run), settings=settings)
    reward = maker_of(name).reward(task, int(config.get("seed", 0)))
    assert isinstance(reward, StepReward)  # of one that acts, and others are refused
    with closing(Journal(run)) as journal:
        rounds = sorted(number for number, part in journal.checkpoints(node) if part == "reward")
        state = journal.weights(node, rounds[-1], "reward") if rounds else None
    if state is None:
        raise RunError(f"{run}: no reward model at {node!r} so far. Train it further: rrm train")
    reward.load(state)
    return reward


def _pairs(judged: Sequence[Comparison]) -> list[Group]:
    return [Group(one.case, (one.a, one.b), (one.assistance_a, one.assistance_b)) for one in judged]


def _of_texts(
    reader: Reader, reward: TextRewardModel, judged: Sequence[Comparison], numbers: dict[str, int],
    names: Sequence[str], apart: set[str], done: Done,
) -> tuple[list[Moved], float | None]:  # fmt: skip
    parts: list[Parts] = []
    for start in range(0, len(judged), AT_ONCE):
        parts += [less(a, b) for a, b in parts_of(reward, _pairs(judged[start : start + AT_ONCE]), names)]
        done("comparisons scored", len(parts), len(judged))
    moved: list[Moved] = []
    read = missed = 0.0
    for one, whole in zip(judged, parts, strict=True):
        pieces: tuple[MovedPiece, ...] = ()
        if one.id in apart:
            spans = [_spans(reader, numbers[one.id], side) for side in "ab"]
            pieces = tuple(_piece(one, each, *spans) for each in exchanged(reward, one, names))
            a, b = (gradients(reward, _pairs([one])[0], i) for i in (0, 1))
            read, missed = read + whole[READING] ** 2, missed + (a.gap - b.gap) ** 2
            done("taken apart", 1 + sum(bool(each.pieces) for each in moved), len(apart))
        moved.append(Moved(numbers[one.id], one.id, one.case.id, one.preference, whole, pieces))
    return moved, round(math.sqrt(missed / read), 4) if read > 0 else None


def _of_episodes(
    run: Path, reward: StepReward, judged: Sequence[Comparison], numbers: dict[str, int], names: Sequence[str],
    apart: set[str], done: Done,
) -> list[Moved]:  # fmt: skip
    from rrm.acting.episodes import ARCHIVE
    from rrm.acting.step_parts import parts_in_steps

    moved: list[Moved] = []
    for one, group in zip(judged, _pairs(judged), strict=True):
        ARCHIVE.open(run)
        try:
            ((a, b),) = parts_in_steps(reward, [group], names)
        finally:
            ARCHIVE.close(run)
        pieces: tuple[MovedPiece, ...] = ()
        if one.id in apart:
            pieces = (
                *(MovedPiece("step", "", f"step {n + 1}", "", worth) for n, worth in enumerate(a.steps)),
                *(MovedPiece("step", "", "", f"step {n + 1}", -worth) for n, worth in enumerate(b.steps)),
            )
        moved.append(Moved(numbers[one.id], one.id, one.case.id, one.preference, less(a.parts, b.parts), pieces))
        done("comparisons scored", len(moved), len(judged))
    return moved


def _spans(reader: Reader, seq: int, side: str) -> dict[str, tuple[int, int]]:
    """Where facts are in A's or B's text."""
    if "spans" not in reader.tables:
        return {}
    rows = reader.rows(
        "SELECT s.fact, s.start, s.stop FROM comparisons c JOIN spans s ON s.case_id = c.case_id AND s.outcome = "
        f"c.{side} WHERE c.seq = ?",
        (seq,),
    )
    return {fact: (start, stop) for fact, start, stop in rows}


def _piece(
    one: Comparison, each: Exchanged, spans_a: dict[str, tuple[int, int]], spans_b: dict[str, tuple[int, int]]
) -> MovedPiece:
    a, b = one.a.whole[slice(*each.at_a)].strip(), one.b.whole[slice(*each.at_b)].strip()
    facts = [
        name for spans, (start, stop), before in (
            (spans_a, each.at_a, len(one.a.around[0])), (spans_b, each.at_b, len(one.b.around[0]))
        )
        for name, (begin, end) in spans.items() if begin < stop - before and start - before < end
    ]  # fmt: skip
    parts = {name: round(value, 4) for name, value in each.parts.items()}
    return MovedPiece(each.kind, each.by, a[:CUT], b[:CUT], each.worth, parts, tuple(dict.fromkeys(facts)))


def _reading(moved: Sequence[Moved]) -> dict[str, Known]:
    """Of what is read, by whose words it is."""
    pairs = []
    for one in moved:
        if one.pieces:
            split = {OWN: 0.0, TOLD: 0.0}
            for piece in one.pieces:
                if piece.kind in (WORDS, SAID):
                    split[OWN if piece.kind == WORDS else TOLD] += piece.parts.get(READING, 0.0)
            pairs.append((one.case, split))
    return shares(pairs)


def _pair_of(line: str) -> tuple[str, str]:
    """The pair that a line is of, and the line; none of what was cut off."""
    whole = line.startswith('{"pair": "') and line.endswith("]}")
    return (line.split('"', 4)[3], line) if whole else ("", "")


def _keep_attributions(reader: Reader, node: str, moved: Sequence[Moved]) -> None:
    """For pages (`rrm.view.attributions`): small enough to be read line by line. What was taken apart before stays so.
    """
    path, lines = file_of(reader.folder, node), [json.dumps({"weights": weights_of(reader, node)["reward"]})]
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = dict(map(_pair_of, before[1:])) if before[:1] == lines else {}
    for one in moved:
        pieces = [
            {"kind": p.kind, "by": p.by, "a": p.a, "b": p.b, "worth": round(p.worth, 4), "facts": p.facts}
            for p in one.pieces
        ]
        body = {"pair": one.pair, "parts": {k: round(v, 4) for k, v in one.parts.items()}, "pieces": pieces}
        lines.append(known.get(one.pair, "") if not pieces and one.pair in known else json.dumps(body, allow_nan=False))
    write_atomically(path, "\n".join([*lines, ""]).encode())
