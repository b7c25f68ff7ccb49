"""A look at a tree before it is trained: what does the model make of each role, and can it be read at all?

Most failures show in ten examples: outcomes without form, a role that runs on into the next, an assistant that always
says the same. Nothing is judged here, nothing trained, and nothing kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, RenderableType
from rich.console import Group as Several
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rrm.core.clean import visible
from rrm.core.errors import Malformed
from rrm.core.records import Case, Group
from rrm.core.spelling import end_of
from rrm.core.task import Assistant, Pool, Task, assist
from rrm.core.validation import check
from rrm.loop.recursion import frame_all
from rrm.measure.memory import peak
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.probing import probe

SHOWN = 600
"""Most characters of an outcome or a prompt that are shown."""
SHORTEST = 12
"""Columns of a role's name, at least: with fewer there is no table."""


@dataclass(frozen=True)
class Look:
    """What a node's starting agent wrote.

    faults: per outcome, why it does not parse; empty if it does.
    seconds: that sampling took.
    na: of the parent's outcomes that were looked at, the share that asks this node nothing.
    """

    task: Task
    groups: Sequence[Group]
    faults: Sequence[str]
    seconds: float
    na: float

    @property
    def outcomes(self) -> list[tuple[Group, int]]:
        """Every outcome as its group and its index there, in the order of `faults`."""
        return [(group, i) for group in self.groups for i in range(len(group.outcomes))]

    @property
    def readable(self) -> float:
        """Share of the outcomes that parse, 0 to 1."""
        return 1 - sum(map(bool, self.faults)) / max(1, len(self.faults))

    @property
    def finished(self) -> float:
        """Share of the outcomes that ended before `max_tokens`."""
        ended = [group.outcomes[i].finished for group, i in self.outcomes]
        return sum(ended) / max(1, len(ended))

    @property
    def different(self) -> float:
        """Mean over cases of the share of their outcomes that are different, 0 to 1: 1 if none comes twice."""
        shares = [len({o.content for o in group.outcomes}) / len(group.outcomes) for group in self.groups]
        return sum(shares) / max(1, len(shares))

    @property
    def tokens(self) -> int:
        """How many tokens were sampled."""
        return sum(len(group.outcomes[i].tokens) for group, i in self.outcomes)

    @property
    def verdicts(self) -> tuple[int, int]:
        """How often the readable outcomes say of something that it holds, and that it does not."""
        said = [0, 0]
        for (group, i), fault in zip(self.outcomes, self.faults, strict=True):
            if not fault and self.task.findings is not None:
                for finding in self.task.findings(group.case, group.outcomes[i]):
                    said[not finding.holds] += 1
        return said[0], said[1]


def look(
    task: Task, backbone: Backbone, cases: int = 4, outcomes: int = 4, seed: int = 0, free: bool = False
) -> Iterator[Look]:
    """What the untrained model writes at every node that is to be trained, parents before children: a child is asked
    about what its parent wrote. A node without a case is left out, and all below it. `free`: no case has a form."""
    assert task.cases is not None  # checked when the tree is built
    yield from _look(task, task.cases.draw(cases, f"look {seed}"), 0.0, backbone, cases, outcomes, seed, free)


def _look(
    task: Task, asked: Sequence[Case], na: float, backbone: Backbone, cases: int, outcomes: int, seed: int, free: bool
) -> Iterator[Look]:
    agent = TextAgent(backbone, backbone.start, task.settings.max_tokens)
    asked = [replace(case, form="") for case in asked] if free else asked
    began = time.perf_counter()
    groups = agent.sample(asked, outcomes, f"look {task.path} {seed}", task.settings.temperature)
    taken = time.perf_counter() - began
    yield Look(task, groups, [_fault(task, group, i) for group in groups for i in range(outcomes)], taken, na)
    for sub in task.assistants:
        if isinstance(sub, Assistant):
            continue
        framed = frame_all(sub, groups)
        each = [Group(group.case, (outcome,)) for group in groups for outcome in group.outcomes]
        none = sum(not frame_all(sub, [one]) for one in each) / len(each)
        if framed:
            drawn = Pool(tuple(framed)).draw(min(cases, len(framed)), f"look {sub.path} {seed}")
            yield from _look(sub, drawn, none, backbone, cases, outcomes, seed, free)


def _fault(task: Task, group: Group, index: int) -> str:
    """Why an outcome does not parse; empty if it does."""
    try:
        task.facts(group.case, group.outcomes[index])
        if task.findings is not None:
            task.findings(group.case, group.outcomes[index])
    except Malformed as error:
        return str(error) or "malformed"
    return ""


def begin(task: Task, model: str, cases: int, outcomes: int, examples: int, seed: int, free: bool) -> None:
    """`rrm look`. Raises `TaskError` or `ModelError`."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    task = check(task)
    backbone = Backbone.load(model)
    backbone.precision, _ = probe(backbone)
    show(task, backbone, Console(), cases, outcomes, examples, seed, free)


def show(
    task: Task, backbone: Backbone, console: Console, cases: int, outcomes: int, examples: int, seed: int = 0,
    free: bool = False,
) -> None:  # fmt: skip
    """Print some of what each role wrote, then a table of all roles, then what looks wrong."""
    found = []
    for one in look(task, backbone, cases, outcomes, seed, free):
        found.append(one)
        console.rule(Text(one.task.path), align="left")
        tools = [helper for helper in one.task.assistants if isinstance(helper, Assistant)]
        for group in one.groups[:examples]:
            outcome = group.outcomes[0]
            console.print(Padding(Text(_cut(group.case.prompt), style="dim"), (0, 0, 0, 2)))
            console.print(Text(f"> {_cut(outcome.shown) or '(nothing)'}"))
            for said in assist(tools, [Group(group.case, (outcome,))])[0].seen(0):
                console.print(Padding(Text(_cut(said.text), style="cyan"), (0, 0, 0, 4)))
            console.print()
    console.print(table(found, console.width))
    console.print(Text(f"peak memory {peak() / 1024:.1f} GB, loading included"))
    prompts = {one.task.path: [group.case.prompt for group in one.groups] for one in found}
    unread = [f"{path}: {why}" for path, texts in prompts.items() if (why := backbone.chat.unread(texts))]
    for line in [*unread, *doubts(found, task)]:
        console.print(Text(f"doubt: {line}", style="yellow"))


def table(found: Sequence[Look], width: int) -> RenderableType:
    """The roles, a row each; of paths that are too long for that many columns, the ends. Where there is no room for any
    end, each role has a paragraph of its own."""
    rows = [_figures(one) for one in found]
    room = width - sum(max(len(name), *(len(row[name]) for row in rows)) + 1 for name in rows[0])
    paths = [one.task.path for one in found]
    ends = [end_of(path, room, paths) for path in paths]
    if room < SHORTEST or len({*ends}) < len(ends):
        return Several(*(
            Text.assemble((one.task.path, "bold"), "\n", ", ".join(f"{name} {row[name]}" for name in row if row[name]))
            for one, row in zip(found, rows, strict=True)
        ))  # fmt: skip
    out = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    out.add_column("role", no_wrap=True)
    for name in rows[0]:
        out.add_column(name, justify="right", no_wrap=True)
    for end, row in zip(ends, rows, strict=True):
        out.add_row(Text(end), *row.values())
    return out


def _figures(one: Look) -> dict[str, str]:
    number, (yes, no) = len(one.outcomes), one.verdicts
    return {
        "outcomes": str(number), "readable": f"{one.readable:.2f}", "ended": f"{one.finished:.2f}",
        "different": f"{one.different:.2f}", "yes/no": "" if one.task.findings is None else f"{yes}/{no}",
        "tokens": f"{one.tokens / number:.0f}", "seconds": f"{one.seconds:.1f}",
        "tokens/s": f"{one.tokens / max(one.seconds, 1e-9):.0f}",
    }  # fmt: skip


def doubts(found: Sequence[Look], task: Task) -> Iterator[str]:
    """What in these outcomes would make training hard, and what to do."""
    for one in found:
        path, most = one.task.path, one.task.settings.max_tokens
        yes, no = one.verdicts
        if one.readable < 0.5:
            why = next(fault for fault in one.faults if fault)
            mend = "give its cases a form (`Case.form`), or mend the prompt"
            yield f"{path}: {1 - one.readable:.0%} cannot be read ({why}); {mend}"
        if one.different < 0.3:
            yield f"{path}: a case's outcomes are mostly the same, so there is little to compare; raise its temperature"
        if yes + no >= 8 and min(yes, no) == 0:
            yield f"{path}: it says {'no' if yes == 0 else 'yes'} to everything"
        if one.finished < 0.5:
            yield f"{path}: {1 - one.finished:.0%} did not end in {most} tokens; ask for less, or raise max_tokens"
        if one.na > 0.9:
            yield f"{path}: {one.na:.0%} of the parent's outcomes ask it nothing"
    seen = {one.task.path for one in found}
    tools = {a.task.path for node in task.walk() for a in node.assistants if isinstance(a, Assistant)}
    for node in task.walk():
        if node.path not in seen | tools:
            yield f"{node.path}: nobody asked it anything; see its parent's outcomes"


def _cut(text: str) -> str:
    text = visible(text.strip())
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2].rstrip()} [...] {text[-SHOWN // 2 :].lstrip()}"
