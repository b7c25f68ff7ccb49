"""`rrm audit`: a trained node is put to tests that training did not see; what they give goes into its certificate."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rrm.core.errors import RunError
from rrm.core.judgements import Event, Judgement, Pair
from rrm.core.parties import Maker, User
from rrm.core.settings import Explained, Settings
from rrm.core.task import Assistant, Task
from rrm.core.validation import plant
from rrm.labels.queue import ASKED
from rrm.loop.reopen import as_set
from rrm.loop.training import maker_of, train
from rrm.models.backbone import Backbone
from rrm.store.config import read_config
from rrm.store.journal import Journal
from rrm.trust.audit_parts import PARTS
from rrm.trust.bench import Bench, Found, Unknowable
from rrm.trust.gathering import held_out
from rrm.trust.machines import this_machine
from rrm.trust.register import called
from rrm.trust.shapes import NOBODY, UNASKED
from rrm.trust.shelf import as_noted, keep, weights_of
from rrm.trust.snapshot import beside, copied
from rrm.users.endpoint import EndpointUser
from rrm.users.human import HumanUser
from rrm.view.reading import DONE, Reader


@dataclass(frozen=True)
class Audited:
    """A part that is done."""

    part: str
    found: Found
    """Its figures, or "not_known"; "holds" where it is a matter of yes or no, None if it is open."""
    kept: bool = False
    """Whether it was done before, and only read."""
    examples: tuple[str, ...] = ()


def audit(
    run: Path, node: str, tree: Task, user: User | None, model: str | Backbone | Maker | None = None, cases: int = 32,
    budget: int = 16, seed: int = 0, shifted: Task | None = None, only: Sequence[str] = (), again: bool = False,
    called: str = "", say: Callable[[str], None] = lambda line: None,
) -> Iterator[Audited]:  # fmt: skip
    """Audit a node of a finished run, part by part; each is kept with the run as soon as it is done.

    The run's folder is copied, and the tree had back from the copy as a resumed run has it: its weights and whom its
    user trusts, and nothing is trained. A part that was done of these weights with these settings is read, not done
    again. Raises `RunError` if the run is another, was judged by somebody else, is unfinished, or has no such node.

    Parameters
    ----------
    node: its path.
    tree: the root, as it was trained. shifted: one with the same nodes and cases of another kind.
    user: who is asked: who judged, with the same settings; of a run that people judged, a `HumanUser`, who asks people
        (`rrm label RUN/trust/asked`), or anybody in their place, of which the results say so. None: nobody, and what
        would take somebody is not known.
    model: by default what the run's was called.
    cases: new cases of each part. budget: outcomes of each case that the adversary chooses from.
    only: parts, of `PARTS`; all by default.
    called: what of a command line is the same for all parts, to be kept with each.
    """
    config = _checked(run, node, tree, user)
    judged = _judged_by(config)
    unknown = [one for one in only if one not in PARTS]
    if unknown:
        raise RunError(f"an audit has no part {', '.join(unknown)}; it has {', '.join(PARTS)}")
    kind = "" if shifted is None or shifted.cases is None else ",".join(
        case.id for case in shifted.cases.draw(4, "about")
    )  # fmt: skip
    with Reader(run) as reader:
        weights = weights_of(reader, node)
        stored = held_out(reader, reader.nodes[node])
        asked = [part for part in PARTS if part in (only or PARTS)]
        done = {part: _kept(reader, node, part, weights) for part in asked}
    who = NOBODY if user is None else user.name
    made = {part: _made(part, cases, budget, seed, who, kind) for part in asked}
    open_parts = [part for part in asked if again or done[part].get("made") != made[part]]
    for part in asked:
        if part not in open_parts:
            yield Audited(part, done[part], kept=True)
    if not open_parts:
        return
    say("having the run back")
    with _bench(run, config, node, tree, user, model) as had:
        nobody = "" if user is not None else f"nobody was asked in this audit: {judged} judged in training"
        had = replace(had, cases=cases, budget=budget, seed=seed, shifted=shifted, nobody=nobody, stored=stored)
        for part in open_parts:
            say(f"{part} ...")
            bench = replace(had, round=[*PARTS].index(part), examples=[])
            try:
                found = dict(PARTS[part](bench))
            except Unknowable as error:
                found = {"not_known": str(error)}
            if user is not None and user.name != judged and part not in UNASKED:
                found["asked in place of who judged"] = user.name
            found |= {"made": made[part], "times": done[part].get("times", 0) + 1}
            command = f"rrm audit RUN {node}{called} --only {part} --cases {cases} --budget {budget} --seed {seed}"
            with Reader(run) as reader:
                other = shifted is not None and part == "shifted"
                inputs = {"cases": cases, "budget": budget, "seed": seed, "shifted": other, "asked": who}
                keep(reader, node, "audits", part, command, found, inputs, this_machine())
            yield Audited(part, found, examples=tuple(bench.examples))


def _made(part: str, cases: int, budget: int, seed: int, user: str, shifted: str) -> dict[str, Any]:
    made: dict[str, Any] = {"cases": cases, "seed": seed, "user": user}
    made |= {"budget": budget} if part == "adversarial" else {}
    return made | ({"first shifted cases": shifted} if part == "shifted" else {})


def _kept(run: Reader, node: str, part: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """What was found before, of these weights; how often, and no more, of a file that run.db notes otherwise."""
    path = run.folder / called(node, "audits", part)
    try:
        body = json.loads(path.read_text())
        found = dict(body["found"]) if body["weights"] == weights else {}
        known = as_noted(run, run.folder, node, "audits", part)
        return found if known else {"times": int(found.get("times", 0))}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it, or find it again") from error


def _judged_by(config: Mapping[str, Any]) -> str:
    return str(config["user"].get("name", ""))


def _checked(run: Path, node: str, tree: Task, user: User | None) -> dict[str, Any]:
    config = read_config(run)
    if {"tree", "model", "user"} - {*config}:
        raise RunError(f"{run} says in no config.json what was trained; give the folder of a run")
    judged = _judged_by(config)
    if user is not None and user.name != judged and judged != HumanUser().name:
        raise RunError(
            f"{run} was judged by {judged}, not by {user.name}; give who judged it with --user, or --user nobody: what "
            "takes nobody is done then, and the rest not known"
        )
    nodes = {one.path for one in plant(tree).walk()}
    if not {*config["tree"]} <= nodes:
        raise RunError(
            f"the tree has the nodes {', '.join(sorted(nodes))}, and the run {', '.join(sorted(config['tree']))}; give "
            "the tree that was trained with --tree"
        )
    with Reader(run) as reader:
        if node not in reader.nodes:
            raise RunError(f"{run} has no node {node!r}; it has {', '.join(reader.nodes)}")
        for one in reader.nodes.values():
            state = reader.progress(one).state
            if state not in DONE:
                raise RunError(f"{run}: {one.path} is not finished ({state}); go on training, and then audit")
        if reader.nodes[node].finished is not None:
            where = "is a tool: nothing of it was trained" if reader.nodes[node].tool else (
                "was finished in another run; audit it there"
            )
            raise RunError(f"{node} {where}")
    return config


@contextmanager
def _bench(
    run: Path, config: Mapping[str, Any], node: str, tree: Task, user: User | None, model: str | Backbone | Maker | None
) -> Iterator[Bench]:
    """The node, had back from a copy of the run, which is removed at the end."""
    about = config.get("about", {})
    rates = about.get("decided", about).get("rates") or {}
    task = _as_trained(plant(tree), config["tree"], rates)
    before = torch.get_num_threads()
    torch.set_num_threads(int(about.get("threads", before)))
    try:
        with copied(run) as copy, warnings.catch_warnings():
            beside(run, copy)
            warnings.simplefilter("ignore")
            maker = maker_of(model or config["model"]["name"])
            then = user if user is not None and user.name == _judged_by(config) else _WhoJudged(config["user"])
            root = train(task, then, maker, copy, int(config.get("seed", 0)), [_loaded_only])
            journal = root.memo
            assert isinstance(journal, Journal)
            with closing(journal):
                line = _line(root, node)
                known = frozenset(c.case.id for one in line for c in journal.comparisons(one.task.path))
                judged = [(one, [c.judgement for c in journal.comparisons(one.path)]) for one in task.walk()]

                def anew() -> User:
                    """Whoever judged, as they were at the end of training."""
                    if user is None:
                        return then
                    if not isinstance(user, Explained) or isinstance(user, EndpointUser | HumanUser):
                        return user  # a model, which judges every pair afresh, or people, who remember for themselves
                    fresh: Any = type(user)(**user.model_dump())
                    for one, judgements in judged:
                        for judgement in judgements:
                            fresh.recall(one, judgement)
                    return fresh  # type: ignore[no-any-return]

                yield Bench(line, known, anew, 0, 0, 0, asking=run / ASKED)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _WhoJudged:
    """Who judged a run, for having it back: asked for nothing."""

    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.told["name"])

    def model_dump(self) -> dict[str, Any]:
        return {key: value for key, value in self.told.items() if key != "name"}

    def judge(self, task: Task, pair: Pair) -> Judgement:
        raise RunError(f"{task.path}: {self.name} is not here to be asked")

    def recall(self, task: Task, judgement: Judgement) -> None:
        pass


def _as_trained(task: Task, tree: Mapping[str, Any], rates: Mapping[str, float]) -> Task:
    """The tree with the run's settings."""
    below = tuple(_as_trained(sub, tree, rates) if isinstance(sub, Task) else sub for sub in task.assistants)
    given = tree[task.path]["settings"] if task.path in tree else {}
    return replace(task, assistants=below, settings=Settings(**as_set(given, rates)))


def _loaded_only(_: Any, event: Event) -> None:
    if event.phase in ("sample", "compare", "fit", "improve"):
        raise RunError(f"{event.task} would go on training, and an audit trains nothing; go on with rrm train first")


def _line(top: Assistant, node: str) -> tuple[Assistant, ...]:
    """From the root to the node."""
    if top.task.path == node:
        return (top,)
    below = next(one for one in top.helpers if f"{node}/".startswith(f"{one.task.path}/"))
    return (top, *_line(below, node))
