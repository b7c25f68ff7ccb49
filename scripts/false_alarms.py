"""How often tools call right work wrong, and of how much they say nothing.

    python scripts/false_alarms.py --data FOLDER

Real text with known truth: GSM8K's worked answers (all right) and four models' solutions (right or not), with their
marks <<3+4=7>> and without; BIG-Bench-Mistake's traces of sums and of sorting (with a mistake or without); answers in
prose (LLMBar) and sentences (BLiMP), also as a tokenizer would leave them. A tool calls a text wrong if any of its
findings fails. Intervals are Wilson's, 95 %. Of the facts of relevance, which are exact by definition: how often they
hold of right solutions, of wrong ones and of another question's (`--table relevance`).

The settings of `answered` and `follows` were chosen looking at one half of the questions ("looked at"; those that
scripts/word_problems.py keeps for tuning are among them). There is no training split among these files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrm.core.errors import ToolMissing
from rrm.core.records import Case, Outcome, digest
from rrm.core.tools import Tool, consult
from rrm_assistants import relevance
from rrm_assistants.answered import Answered
from rrm_assistants.arithmetic import Arithmetic
from rrm_assistants.equalities import Equalities
from rrm_assistants.follows import Follows
from rrm_assistants.solution import answer
from rrm_assistants.sorting import Sorting
from rrm_assistants.tools.algebra import Algebra
from rrm_assistants.tools.grammar import Grammar
from rrm_assistants.tools.rerun import Rerun
from rrm_tasks.big_bench_mistake import SHOWN, TRACES, case_of, outcome_of
from rrm_tasks.gsm8k import PROBLEMS, SOLUTIONS

Asked = tuple[Case, Outcome]
WORD_PROBLEMS: tuple[Tool, ...] = (Arithmetic(), Follows(), Answered())
TOOLS: tuple[Tool, ...] = (*WORD_PROBLEMS, Equalities(), Sorting(), Algebra(), Rerun(), Grammar())
RELEVANCE = ("givens", "units", "stated")
"""The facts of relevance; see `rrm_assistants.relevance`."""
EASY = "Pens in all: 3 * 4 = 12\nPens left: 12 - 5 = 7\nA: 7"
"""What an agent came to write that was trained for computations that come out: a prompt's example, said again."""
_MARK = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True)
class Rates:
    """What one tool said of one kind of text."""

    texts: int
    wrong: int
    """Of how many it called something wrong."""
    silent: int
    """Of how many it said nothing (N/A)."""

    @property
    def share(self) -> float:
        """Of all texts, those that were called wrong."""
        return self.wrong / self.texts

    def cell(self) -> str:
        """The share with its interval."""
        low, high = wilson(self.wrong, self.texts)
        return f"{self.share:.4f} [{low:.4f}, {high:.4f}]"


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927, J. Am. Stat. Assoc. 22, 209-212)."""
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * (share * (1 - share) / n + spread / (4 * n)) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def rates(tool: Tool, texts: Iterable[Asked], unseen: int = 0) -> Rates:
    """Ask the tool about every text. What it says of the first `unseen` steps does not count."""
    reports = [consult(tool, *asked) for asked in texts]
    wrong = sum(any(not one.holds and _step(one.fact) > unseen for one in report.findings) for report in reports)
    return Rates(len(reports), wrong, sum(not report.findings for report in reports))


def _step(fact: str) -> int:
    found = re.fullmatch(r"(?:step|calc)(\d+)", fact)
    return int(found[1]) if found else 10**9


def looked_at(question: str) -> bool:
    """Whether a question is of the half that settings were chosen on."""
    return int(digest("tuning", question), 16) % 2 == 0


def worked(data: Path, marks: bool, half: bool | None = None) -> Iterator[Asked]:
    """GSM8K's own solutions, all right. half: only those looked at (True), only the others (False)."""
    for row in PROBLEMS.read(data / PROBLEMS.file):
        if half is None or looked_at(row.question) == half:
            yield Case(row.question), Outcome(row.answer if marks else _MARK.sub("", row.answer))


def written_by_models(data: Path, marks: bool, right: bool, half: bool | None = None) -> Iterator[Asked]:
    """Four models' solutions of the same questions, those that are right or those that are not."""
    for row in SOLUTIONS.read(data / SOLUTIONS.file):
        for solution in row.solutions.values():
            if solution.is_correct == right and (half is None or looked_at(row.question) == half):
                yield Case(row.question), Outcome(solution.solution if marks else _MARK.sub("", solution.solution))


def traces(data: Path, task: str, mistaken: bool) -> Iterator[Asked]:
    """The traces of a task with a mistake, or those without."""
    for one in TRACES[task].read(data / TRACES[task].file):
        if (one.mistake_index is not None) == mistaken:
            yield case_of(task, one), outcome_of(one)


def answers(data: Path) -> Iterator[Asked]:
    """Answers to instructions, in prose and all kinds of things, good and bad."""
    for row in _rows(data / "llmbar" / "natural.jsonl"):
        for name in ("output_1", "output_2"):
            yield Case(row["input"]), Outcome(row[name])


def sentences(data: Path, good: bool, each: int) -> Iterator[Asked]:
    """The first `each` sentences of every paradigm, the grammatical ones or the others."""
    for path in sorted((data / "blimp").glob("*.jsonl")):
        for row in list(_rows(path))[:each]:
            yield Case("Write a sentence."), Outcome(row["sentence_good" if good else "sentence_bad"])


def apart(texts: Iterable[Asked]) -> Iterator[Asked]:
    """The texts as Penn's tokenizer leaves them, in essence: signs and endings set apart."""
    for case, outcome in texts:
        text = re.sub(r"(?<=\w)(n't|['’](?:s|re|ve|ll|d|m))\b", r" \1", outcome.text.replace("’", "'"))
        text = re.sub(r"(?<=[\w)\"])([,.;:!?])(?=\s|$)", r" \1", text)
        yield case, Outcome(re.sub(r"\((?=\w)", "( ", re.sub(r"(?<=\w)\)", " )", text)))


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def kinds(data: Path) -> dict[str, list[Asked]]:
    """All kinds of text, each by its name."""
    return {
        "GSM8K, worked": list(worked(data, True)),
        "sums, no mistake": list(traces(data, "multistep_arithmetic", False)),
        "sums, a mistake": list(traces(data, "multistep_arithmetic", True)),
        "sorting, no mistake": list(traces(data, "word_sorting", False)),
        "sorting, a mistake": list(traces(data, "word_sorting", True)),
        "answers in prose": list(answers(data)),
        "answers, tokenized": list(apart(answers(data))),
        "sentences, good": list(sentences(data, True, 50)),
        "sentences, bad": list(sentences(data, False, 50)),
    }


def print_word_problems(data: Path, tools: Sequence[Tool]) -> None:
    """The tools for word problems on their own kind of text."""
    print("| tool | marks | worked (right): called wrong | looked at | others | N/A | models' right | models' wrong "
          "| wrong less right | looked at | others |")  # fmt: skip
    print("|" + " --- |" * 11)
    for tool in tools:
        for marks in (True, False):
            whole, own, other = (rates(tool, worked(data, marks, half)) for half in (None, True, False))
            models = {
                half: [rates(tool, written_by_models(data, marks, right, half)) for right in (True, False)]
                for half in (None, True, False)
            }
            less = [f"{models[half][1].share - models[half][0].share:.4f}" for half in (None, True, False)]
            print(
                f"| {tool.name} | {'with' if marks else 'without'} | {whole.cell()} | {own.cell()} | {other.cell()} "
                f"| {whole.silent / whole.texts:.3f} | {models[None][0].cell()} | {models[None][1].cell()} "
                f"| {' | '.join(less)} |"
            )
    n = [rates(tools[0], texts).texts for texts in (worked(data, True), worked(data, True, True),
         written_by_models(data, True, True), written_by_models(data, True, False))]  # fmt: skip
    print(f"\n{n[0]} worked solutions, {n[1]} of them looked at; {n[2]} right and {n[3]} wrong ones of models.\n")


def elsewhere(texts: Sequence[Asked]) -> Iterator[Asked]:
    """Every solution as if it were one of the question 37 further on: nothing of it has to do with that."""
    yield from ((texts[(i + 37) % len(texts)][0], outcome) for i, (_, outcome) in enumerate(texts))


def holding(texts: Iterable[Asked]) -> dict[str, tuple[int, int]]:
    """Per fact of relevance, and for all of a solution's together: how many hold, and of how many. Solutions without an
    answer, which the task refuses, are left out."""
    counted: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for case, outcome in texts:
        if answer(outcome.text) is None:
            continue
        truths = relevance.held(case.prompt, outcome.text)
        for name, holds in (*truths.items(), ("all", all(truths.values()))):
            counted[name] += 1
            held[name] += holds
    return {name: (held[name], counted[name]) for name in (*RELEVANCE, "all")}


def print_relevance(data: Path) -> None:
    """Of what share of solutions the facts of relevance hold; the question decides whether there is such a fact."""
    print("| half of the questions | solutions | " + " | ".join((*RELEVANCE, "all")) + " |")
    print("|" + " --- |" * (len(RELEVANCE) + 3))
    for half, name in ((True, "looked at"), (False, "others")):
        own = list(worked(data, False, half))
        kinds = {
            "worked (right)": own,
            "models', right": list(written_by_models(data, False, True, half)),
            "models', wrong": list(written_by_models(data, False, False, half)),
            "worked, of another question": list(elsewhere(own)),
            "easy sums, of no question": [(case, Outcome(EASY)) for case, _ in own],
        }
        for kind, texts in kinds.items():
            found = holding(texts).values()
            cells = [f"{k / n:.3f} [{low:.3f}, {high:.3f}] of {n}" for k, n in found for low, high in (wilson(k, n),)]
            print(f"| {name} | {kind} | {' | '.join(cells)} |")
    print()


def print_kinds(data: Path, tools: Sequence[Tool]) -> None:
    """Every tool on every kind of text: the share called wrong, and the share of which nothing is said."""
    texts = kinds(data)
    print("| text | n | " + " | ".join(tool.name for tool in tools) + " |")
    print("|" + " --- |" * (len(tools) + 2))
    for name, asked in texts.items():
        unseen = SHOWN["multistep_arithmetic"] if name.startswith("sums") else 0  # those had not labeled it
        found = [rates(tool, asked, unseen) for tool in tools]
        cells = [
            "N/A" if one.silent == one.texts else f"{one.cell()}, N/A {one.silent / one.texts:.2f}" for one in found
        ]
        print(f"| {name} | {len(asked)} | {' | '.join(cells)} |")


def installed(tools: Iterable[Tool]) -> list[Tool]:
    """Those whose libraries are there."""
    there = []
    for tool in tools:
        try:
            _ = tool.version
        except ToolMissing as why:
            print(f"without {tool.name}: {why}")
        else:
            there.append(tool)
    return there


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RRM_DATA"), help="folder; default $RRM_DATA")
    parser.add_argument("--table", choices=("word problems", "relevance", "kinds", "all"), default="all")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data FOLDER, or $RRM_DATA, says where the data sets lie")
    if args.table in ("word problems", "all"):
        print_word_problems(args.data, WORD_PROBLEMS)
    if args.table in ("relevance", "all"):
        print_relevance(args.data)
    if args.table in ("kinds", "all"):
        print_kinds(args.data, installed(TOOLS))


if __name__ == "__main__":
    main()
