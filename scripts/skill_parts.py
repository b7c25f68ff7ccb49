"""What a model is asked to find out what it can do (scripts/model_skills.py), and what is kept of its answers.

What is kept is raw: texts, and log-probabilities of answers. What they amount to is settled when the page is written
(scripts/skill_page.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from frozen import is_tuning
from kept_rows import Part, Row

from rrm import ModelUser, Task
from rrm.core.errors import RRMError
from rrm.core.records import digest
from rrm.core.validation import check
from rrm.measure.roles import look
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup, pack
from rrm_assistants.solution import answer
from rrm_assistants.text import novelty
from rrm_assistants.tools.novelty import Novelty
from rrm_tasks import llmbar
from rrm_tasks.big_bench_mistake import SHOWN, TRACES, case_of
from rrm_tasks.gsm8k import SOLUTIONS
from rrm_tasks.novel import novel
from rrm_tasks.research_paper import KNOWN, research_paper
from rrm_tasks.word_problems import problems, word_problems

PARTS = ("gsm8k", "roles", "steps", "solutions", "llmbar", "speed")
FREE_TOKENS = 256
"""Most tokens of a solution that is held to no form: models put more words around their numbers."""


@dataclass(frozen=True)
class Sizes:
    """How much is asked: GSM8K's questions to solve, traces of each kind, questions whose solutions are judged,
    LLMBar's pairs of each kind, cases and outcomes a role, rows and tokens for speed."""

    gsm8k: int = 200
    traces: int = 60
    questions: int = 60
    pairs: int = 100
    cases: int = 4
    outcomes: int = 2
    rows: int = 16
    tokens: int = 64
    longest: int | None = None
    """Most tokens of any outcome, for a quick try; None: as each task says."""


def first(ids: Sequence[str], number: int) -> list[int]:
    """The places of some items: in an order that says nothing of them, the same for every number; each id once, and
    none that tools, forms and prompts were written looking at (`frozen.is_tuning`)."""
    places = {one: i for i, one in enumerate(ids) if not is_tuning(one)}
    return [places[one] for one in sorted(places, key=lambda one: digest("order", one))][:number]


def parts(
    names: Sequence[str], backbone: Backbone, where: str, sizes: Sizes, data: Path | None, trees: Sequence[str]
) -> list[Part]:
    """What is to be measured of a model, by the names of `PARTS`. where: as `Backbone.load` takes it."""
    made = {
        "gsm8k": lambda: [solving(backbone, sizes, data, free) for free in (False, True)],
        "roles": lambda: [roles(backbone, sizes, data, trees)],
        "steps": lambda: [steps(backbone, sizes, data, task) for task in TRACES],
        "solutions": lambda: [solutions(backbone, sizes, data)],
        "llmbar": lambda: [judging(backbone, sizes, data, kind) for kind in llmbar.PAIRS],
        "speed": lambda: [speed(backbone, where, sizes)],
    }
    return [part for name in PARTS if name in names for part in made[name]()]


# --- solving -----------------------------------------------------------------------------------------


def solving(backbone: Backbone, sizes: Sizes, data: Path | None, free: bool) -> Part:
    """GSM8K's test questions, greedily; held to the tree's form, or `free`."""
    every = problems(data)
    cases = [every[i] for i in first([case.data["question"] for case in every], sizes.gsm8k)]
    cases = [replace(case, form="") if free else case for case in cases]
    most = word_problems(data).settings.max_tokens
    most = min(max(most, FREE_TOKENS) if free else most, sizes.longest or 10**9)
    agent = TextAgent(backbone, backbone.start, most)

    def work(places: range) -> list[Row]:
        groups = agent.sample([cases[i] for i in places], 1, "skills", greedy=True)
        outcomes = [group.outcomes[0] for group in groups]
        return [
            {"key": cases[i].data["answer"], "text": o.text, "tokens": len(o.tokens), "ended": o.finished}
            for i, o in zip(places, outcomes, strict=True)
        ]

    name = "gsm8k-free" if free else "gsm8k-form"
    asked = [digest(case.prompt, case.form, case.data["answer"]) for case in cases]
    return Part(name, {"max_tokens": most, "greedy": True}, asked, work, 32)


# --- the roles of the trees in words -----------------------------------------------------------------


def trees_of(data: Path | None) -> dict[str, Task]:
    """The trees in words, by name, with all their critics; known works are compared by their words alone, for which no
    wheel is needed."""
    paper, by_words = research_paper(), novelty(Novelty(KNOWN, meaning=None))
    subs = tuple(by_words if sub.name == by_words.name else sub for sub in paper.subtasks)
    solved = word_problems(data, critics=2)
    return {"word_problems": solved, "research_paper": replace(paper, assistants=subs), "novel": novel()}


def roles(backbone: Backbone, sizes: Sizes, data: Path | None, trees: Sequence[str]) -> Part:
    """What is read of each role (`rrm look`), a tree at a time, with and without forms."""
    built = {name: check(task) for name, task in trees_of(data).items() if name in trees}
    if sizes.longest:
        built = {name: _shorter(task, sizes.longest) for name, task in built.items()}
    arms = [(name, free) for name in built for free in (False, True)]

    def work(places: range) -> list[Row]:
        out: list[Row] = []
        for i in places:
            name, free = arms[i]
            seen = [*look(built[name], backbone, sizes.cases, sizes.outcomes, 0, free)]
            said = [
                {
                    "role": one.task.path, "faults": [*one.faults], "ended": one.finished, "different": one.different,
                    "verdicts": None if one.task.findings is None else [*one.verdicts], "tokens": one.tokens,
                }
                for one in seen
            ]  # fmt: skip
            out.append({"tree": name, "free": free, "roles": said, "tokens": sum(one.tokens for one in seen)})
        return out

    ids = []
    for name, free in arms:
        task = built[name]
        drawn = task.cases.draw(sizes.cases, "look 0") if task.cases else []
        nodes = [(node.path, node.settings.max_tokens, node.settings.temperature) for node in task.walk()]
        ids.append(digest(free, nodes, [(case.prompt, "" if free else case.form) for case in drawn]))
    return Part("roles", {"cases": sizes.cases, "outcomes": sizes.outcomes}, ids, work, 1)


def _shorter(task: Task, most: int) -> Task:
    subs = tuple(_shorter(sub, most) if isinstance(sub, Task) else sub for sub in task.assistants)
    settings = task.settings.model_copy(update={"max_tokens": min(most, task.settings.max_tokens)})
    return replace(task, assistants=subs, settings=settings)


# --- verdicts in one word ----------------------------------------------------------------------------


class Asker:
    """Asks a model questions that begin alike, and takes the log-probabilities of the first tokens of Yes and No."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        blanks = ("",) if backbone.tokenizer.chat_template else (" ", "")  # a turn begins with no blank
        for blank in blanks:
            yes, no = (backbone.encode(f"{blank}{word}", "Right?")[:1] for word in ("Yes", "No"))
            if yes and no and yes != no:
                break
        else:
            raise RRMError(f"{backbone.name!r} cannot say yes or no: its tokenizer does not tell them apart")
        self.yes, self.no = yes[0], no[0]

    def ask(self, families: Sequence[Sequence[str]]) -> list[list[tuple[float, float]]]:
        """Per family of prompts, per prompt: the log-probabilities, in nats, of Yes and of No. What the prompts of a
        family have in common is computed once, wherever they part."""
        start, groups = self.backbone.start, [self._branched(prompts) for prompts in families]
        out = [[(0.0, 0.0)] * len(prompts) for prompts in families]
        with torch.inference_mode():
            for packed in pack(groups, d=self.backbone.d, budget=self.backbone.budget(False)):
                ends = packed.ends
                at = start.hidden(packed)[packed.row[ends], packed.source[ends]]
                yes, no = (start.logprobs_at(at, torch.full((len(ends),), token)) for token in (self.yes, self.no))
                where = zip(packed.group.tolist(), packed.index.tolist(), yes.tolist(), no.tolist(), strict=True)
                for group, index, y, n in where:
                    out[group][index] = (y, n)
        return out

    def tokens(self, prompts: Sequence[str]) -> int:
        """How many tokens a family costs."""
        group = self._branched(prompts)
        return len(group.prefix) + sum(map(len, group.segments))

    def fits(self, prompts: Sequence[str]) -> bool:
        """Whether the longest of the prompts and its answer are within the model's context."""
        return max(len(self.backbone.render(prompt)) for prompt in prompts) < self.backbone.limit

    def _branched(self, prompts: Sequence[str]) -> PrefixGroup:
        rows = [self.backbone.render(prompt) for prompt in prompts]
        trunk = max(rows, key=len)
        at = [next((i for i, (a, b) in enumerate(zip(row, trunk, strict=False)) if a != b), len(row)) for row in rows]
        return PrefixGroup(trunk, [(*row[n:], self.yes) for row, n in zip(rows, at, strict=True)], at=at)


BOTH = ("right", "wrong")
"""What is asked of everything: is it right, and is it wrong? Who likes to say yes is found out so."""


def step_prompts(prompt: str, steps: Sequence[str], shown: int) -> list[str]:
    """Of each step that people were shown: is it right, and is it wrong?"""
    out, said = [], prompt + "\n\n"
    for n, step in enumerate(steps, 1):
        said += f"Step {n}: {step.strip()}\n"
        if n > shown:
            out += [f"{said}\nIs step {n} {which}, given the steps before it? Answer Yes or No." for which in BOTH]
    return out


def steps(backbone: Backbone, sizes: Sizes, data: Path | None, task: str) -> Part:
    """BIG-Bench-Mistake: of each step up to the first mistake (what follows has no label), whether it is right."""
    rows = TRACES[task].read(data)
    traces = [rows[i] for i in first([row.input for row in rows], sizes.traces)]
    labeled = [len(t.steps) if t.mistake_index is None else t.mistake_index + 1 for t in traces]
    asker = Asker(backbone)
    families = [
        step_prompts(case_of(task, trace).prompt, trace.steps[:n], SHOWN[task])
        for trace, n in zip(traces, labeled, strict=True)
    ]

    def work(places: range) -> list[Row]:
        some = [families[i] for i in places]
        fit = [asker.fits(prompts) for prompts in some]
        said = iter(asker.ask([prompts for prompts, fits in zip(some, fit, strict=True) if fits]))
        return [
            {
                "mistake": None if traces[i].mistake_index is None else traces[i].mistake_index - SHOWN[task],
                "said": next(said) if fits else None, "tokens": asker.tokens(families[i]) if fits else 0,
            }
            for i, fits in zip(places, fit, strict=True)
        ]  # fmt: skip

    return Part(f"steps-{task}", {}, [digest(prompts) for prompts in families], work)


MARKS = re.compile(r"<<[^<>]*>>")
"""What GSM8K's writers were trained to write for a calculator: no part of a solution as one reads it."""


def solution_prompts(question: str, solution: str) -> list[str]:
    """Is it right, and is it wrong?"""
    text = MARKS.sub("", solution).strip()
    return [
        f"Question: {question}\n\nSolution:\n{text}\n\nIs this solution {which}? Answer Yes or No." for which in BOTH
    ]


def solutions(backbone: Backbone, sizes: Sizes, data: Path | None) -> Part:
    """GSM8K's four models' solutions of questions that some solved and some did not: whether each is right."""
    rows = [row for row in SOLUTIONS.read(data) if len({one.is_correct for one in row.solutions.values()}) == 2]
    asked = [rows[i] for i in first([row.question for row in rows], sizes.questions)]
    asker = Asker(backbone)
    families = [[solution_prompts(row.question, s.solution) for s in row.solutions.values()] for row in asked]

    def work(places: range) -> list[Row]:
        some = [prompts for i in places for prompts in families[i]]
        fit = [asker.fits(prompts) for prompts in some]
        said = iter(asker.ask([prompts for prompts, fits in zip(some, fit, strict=True) if fits]))
        answers = iter([next(said) if fits else None for fits in fit])
        out: list[Row] = []
        for i in places:
            own = [*asked[i].solutions.values()]
            numbers = [answer(one.solution) for one in own]
            votes = [numbers.count(one) if one is not None else 0 for one in numbers]
            out.append(
                {
                    "right": [one.is_correct for one in own], "length": [len(one.solution) for one in own],
                    "votes": votes, "said": [next(answers) for _ in own],
                    "tokens": sum(asker.tokens(prompts) for prompts in families[i]),
                }
            )  # fmt: skip
        return out

    return Part("solutions", {}, [digest(prompts) for prompts in families], work, 8)


# --- judging pairs -----------------------------------------------------------------------------------


def judging(backbone: Backbone, sizes: Sizes, data: Path | None, kind: str) -> Part:
    """LLMBar's pairs, judged by the model as a user (`rrm.ModelUser`), in both orders."""
    rows = llmbar.PAIRS[kind].read(data)
    places = sorted(range(len(rows)), key=lambda i: digest("order", rows[i].input))[: sizes.pairs]
    chosen = [rows[i] for i in places]
    user, task = ModelUser(backbone), llmbar.TASK
    prompts = [[user.prompt(task, one) for one in (pair, pair.swapped())] for pair in map(llmbar.pair_of, chosen)]

    def work(places: range) -> list[Row]:
        out: list[Row] = []
        for i in places:
            row, lengths = chosen[i], [len(backbone.render(prompt)) for prompt in prompts[i]]
            kept: Row = {"label": row.label, "length": [len(row.output_1), len(row.output_2)]}
            if max(lengths) + max(len(backbone.encode(one)) for one in user.answers) > backbone.limit:
                out.append({**kept, "chances": None, "tokens": 0})
                continue
            chances = user.chances(task, llmbar.pair_of(row))
            preference = user.judgement(*chances).preference
            out.append({**kept, "chances": chances, "preference": preference, "tokens": sum(lengths)})
        return out

    settings = {"margin": user.margin, "abstain": user.abstain}
    return Part(f"llmbar-{kind}", settings, [digest(one) for one in prompts], work)


# --- speed -------------------------------------------------------------------------------------------


def speed(backbone: Backbone, where: str, sizes: Sizes) -> Part:
    """Tokens a second, seconds to load and peak memory of our sampler and of `generate`, each in a process of its own
    (scripts/skill_speed.py)."""
    engines = ("rrm", "generate")
    script, precision = Path(__file__).with_name("skill_speed.py"), backbone.precision.weights

    def work(places: range) -> list[Row]:
        out = []
        for i in places:
            command = [sys.executable, str(script), where, "--engine", engines[i], "--rows", str(sizes.rows)]
            command += ["--tokens", str(sizes.tokens), "--precision", precision]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RRMError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
            out.append(json.loads(done.stdout.splitlines()[-1]))
        return out

    settings = {"rows": sizes.rows, "tokens": sizes.tokens, "threads": torch.get_num_threads()}
    return Part("speed", settings, [f"speed/{one}" for one in engines], work, 1)
