"""Labeling in the terminal: the page's keys, one line each. Text of models is escaped, and never markup."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from rrm.core.clean import visible
from rrm.core.records import Outcome
from rrm.core.remarks import Kind, Remark
from rrm.core.task import Picture
from rrm.labels.questions import Choice, LabelError, Question, Said, Verdict, said
from rrm.labels.queue import Labels
from rrm.labels.remarking import heard, offered, remark_of
from rrm.view.accuracy import RANKS, confidence_of
from rrm.view.clips import Clip, Frame, clip_of
from rrm.view.guide import asked_below
from rrm.view.label_end import LabelEnd, end_of
from rrm.view.reading import Reader
from rrm.view.spoken import in_words
from rrm.view.uplift import told

JUDGING = "1 A is better   2 B is better   0 tie   s skip   3 only slightly   n TEXT note"
END = "."
"""A line that ends what is written over several."""
MARKED: dict[Verdict, str] = {"yes": "right", "no": "wrong", "n/a": "cannot tell"}
"""What a person finds of an answer, in words: assistants say yes, no or N/A, and people that this is right or wrong."""
STYLES = {"yes": "green not dim", "no": "red not dim", "N/A": "dim"}
CHOICES: dict[str, Choice] = {"1": "first", "2": "second", "0": "tie", "s": "skip"}


class Terminal:
    """One person at a terminal. `ask` reads a line (EOFError ends it); `sleep` waits for the next pairs."""

    def __init__(
        self, folder: Path, labels: Labels, labeler: str, console: Console, ask: Callable[[str], str] = input,
        sleep: Callable[[float], None] = time.sleep, guidelines: str = "",
    ) -> None:  # fmt: skip
        self.folder, self.labels, self.labeler, self.console = folder, labels, labeler, console
        self.guidelines = guidelines
        self.taught = False
        """Whether the keys were told."""
        self.ask, self.sleep = ask, sleep
        self.hidden = False
        self.ranked = True
        """Whether ranks of answers are shown, where they mean something."""
        self.knowing: frozenset[str] = frozenset()
        self.step = 0
        """Which pictures are shown, from 0."""
        self.clips: list[Clip | None] = [None, None]
        """Of the pair in view, where its outcomes are episodes."""
        self.remarks: tuple[dict[Kind, Remark], dict[Kind, Remark]] = ({}, {})
        """What is said of the pair in view, of each outcome alone, in the order in which they are shown."""

    def run(self) -> None:
        """Ask until training is finished, or until the person quits."""
        waiting, end = False, LabelEnd("", "")
        try:
            while True:
                questions = self.labels.claim(self.labeler)
                if questions:
                    waiting = False
                    if not self._judge(questions[0]):
                        break
                    continue
                before, end = end, self._end()
                if end.over:
                    break
                if not waiting or before != end:
                    self._print(f"{end.title}. {end.text} Ctrl-C ends.", "dim")
                    waiting = True
                self.sleep(1.0)
        except (EOFError, KeyboardInterrupt):
            self.console.print()
        self.labels.release(self.labeler)
        if end.over:
            self._print(f"{end.title}. {end.text}", "bold")
        for line in told(self.folder, self.labels, self.labeler):
            self._print(line)
        for typed, what in end.steps:
            self.console.print(Text.assemble("next: ", visible(typed), (f"  {what}", "dim")), soft_wrap=True)

    def _judge(self, question: Question) -> bool:
        """Ask one question until it is answered; False to quit."""
        began, key = time.monotonic(), str(uuid.uuid4())
        swapped, assisted = question.swapped(self.labeler), question.assisted(self.labeler)
        answers = said(question.pair) if assisted else []
        answers.sort(key=lambda one: one.at.startswith("a") == swapped)  # what is shown first comes first
        marks: dict[str, Verdict] = {}
        note, strength, spot, looked = "", "clearly", 0, assisted and not self.hidden
        self.clips = [clip_of(self.folder, question.pair.case, one) for one in (question.pair.a, question.pair.b)]
        self.step = 0 if any(self.clips) else question.opening
        self.remarks = ({}, {})
        with Reader(self.folder) as run:
            self.knowing = run.knowing
        if not self.taught:
            self.taught = True
            self._print(self._keys(question, answers), "dim")
        self._show(question, answers, swapped)
        while True:
            word, _, rest = self.ask(self._prompt()).strip().partition(" ")
            if word in CHOICES:
                receipt = self.labels.answer(
                    key, question.id, self.labeler, CHOICES[word], strength, time.monotonic() - began, note, marks,
                    hidden=not looked, remarks=(list(self.remarks[0].values()), list(self.remarks[1].values())),
                )  # fmt: skip
                if receipt.late:
                    self._print("Training had gone on without it; it is kept, for agreement only.", "yellow")
                return True
            match word:
                case "u":
                    self._undo()
                    return True
                case "q":
                    return False
                case "n":
                    note = rest or self.ask("note: ")
                case "3":
                    strength = "clearly" if strength == "slightly" else "slightly"
                    self._print(f"{strength} better, when you say which")
                case "h":
                    self.hidden = not self.hidden
                    looked = looked or (assisted and not self.hidden)
                    if assisted:
                        self._show(question, answers, swapped)
                case "c":
                    self.ranked = not self.ranked
                    self._print("ranks are shown" if self.ranked else "ranks are hidden")
                case "a" | "b" if question.asked:
                    self._remark(question, "ab".index(word), rest.strip())
                case "," | "." if any(self._pictures(question, assisted)):
                    self._step(question, swapped, 1 if word == "." else -1)
                case "g":
                    self._guide(question)
                case "j" | "k" if answers:
                    spot = min(len(answers) - 1, max(0, spot + (1 if word == "j" else -1)))
                    self.console.print(self._line(answers[spot], swapped, marks))
                case "y" | "x" if answers and not answers[spot].markable:
                    self._print("That answer is N/A: there is nothing in it that could be right or wrong.")
                case "y" | "x" if answers:
                    marks[answers[spot].at] = "yes" if word == "y" else "no"
                    self.console.print(self._line(answers[spot], swapped, marks))
                case _:
                    self._print(self._keys(question, answers), "dim")
                    self._offers(question)

    def _keys(self, question: Question, answers: Sequence[Said]) -> str:
        """The keys that do something now, three lines of them."""
        undo = ["u undo"] if self.labels.progress(self.labeler).mine else []
        helped = ["h hide or show the assistance"] if answers else []
        helped += ["j k next, previous answer"] if len(answers) > 1 else []
        helped += ["y x this answer is right, is wrong"] if any(one.markable for one in answers) else []
        ranked = any(confidence_of(one, self.knowing) is not None for one in answers)
        rest = ["c hide or show ranks"] if ranked else []
        steps = max(map(len, self._pictures(question, bool(answers)))) > 1
        rest += [", . step back, step on, through the pictures"] if steps else []
        rest += ["g guidelines", "? keys", "q quit (what is judged is kept)"]
        return "\n".join("   ".join(line) for line in ([JUDGING, *undo], helped, rest) if line)

    def _guide(self, question: Question) -> None:
        """What is asked, at more length, and what the assistants were asked."""
        self._print(visible(question.asks), "bold")
        if self.guidelines:
            self._print(visible(self.guidelines))
        with Reader(self.folder) as run:
            below = asked_below(run, question.task)
        for one in below:
            looks = f" ({one.looks_at})" if one.looks_at else ""
            self._print(visible(f"{'  ' * one.depth}{one.name} was asked: {one.asked or 'not known'}{looks}"), "dim")

    def _end(self) -> LabelEnd:
        progress = self.labels.progress(self.labeler)
        with Reader(self.folder) as run:
            return end_of(run, self.folder, progress, self.labels.path.parent != self.folder)

    def _remark(self, question: Question, i: int, said_of: str) -> None:
        """Say something of what is shown as A (0) or B (1) alone, or take it back: 4, +, -, !, = TEXT, or : TEXT."""
        outcome, asked, name = self._outcomes(question)[i], question.asked, "AB"[i]
        sign, rest = said_of[:1], said_of[1:].strip()
        given: Remark | None = None
        if said_of.isdecimal():
            given = remark_of("rating", float(said_of), levels=asked.get("rating", 0))
        elif said_of in ("+", "-"):
            given = remark_of("approval", float(said_of == "+"))
        elif said_of == "!":
            given = remark_of("unacceptable", 1.0)
        elif sign == "=":
            given = remark_of("correction", text=rest or self._lines(f"what {name} should have been"))
        elif sign == ":":
            given = remark_of("note", text=rest or self._lines(f"a note on {name}"))
        try:
            if given is not None:
                heard(asked, outcome, [given], False, f"of {name}")
        except LabelError as error:
            self._print(visible(str(error)), "yellow")
            return
        if given is not None and self.remarks[i].get(given.kind) == given:
            del self.remarks[i][given.kind]
        elif given is not None:
            self.remarks[i][given.kind] = given
        else:
            self._print(_offer(asked, outcome, name), "dim")
        self._print(f"of {name}: {'; '.join(map(_in_words, self.remarks[i].values())) or 'nothing said'}", "green")

    def _lines(self, what: str) -> str:
        """What is written over several lines."""
        self._print(f"{what}; a line with {END!r} alone ends it", "dim")
        return "\n".join(iter(lambda: self.ask("| "), END))

    def _offers(self, question: Question) -> None:
        """What can be said of one outcome alone, and how."""
        for name, outcome in zip("AB", self._outcomes(question), strict=True):
            if question.asked:
                self._print(_offer(question.asked, outcome, name), "dim")
        if "unacceptable" in question.asked:
            self._print("(who judges and marks nothing unacceptable has looked, and it is not)", "dim")

    def _outcomes(self, question: Question) -> tuple[Outcome, Outcome]:
        """As they are shown."""
        pair = question.pair
        return (pair.b, pair.a) if question.swapped(self.labeler) else (pair.a, pair.b)

    def _undo(self) -> None:
        receipt = self.labels.undo(str(uuid.uuid4()), self.labeler)
        if receipt.status == "nothing":
            self._print("There is nothing to undo.")
        elif receipt.late:
            self._print(
                "Training has already used that judgement. That you took it back is recorded, and changes nothing "
                "that was trained.", "yellow",
            )  # fmt: skip

    def _show(self, question: Question, answers: list[Said], swapped: bool) -> None:
        pair = question.pair
        out = self.console
        out.print(Rule(Text(visible(f"{question.task}, round {question.round + 1}"))))
        out.print(Text(visible(question.asks), style="bold"))
        out.print(Panel(Text(visible(pair.case.prompt)), title="case", title_align="left"))
        first, second = self._outcomes(question)
        panels = [
            Panel(Text(visible(outcome.shown) or "(empty)"), title=title, title_align="left", width=self._half)
            for title, outcome in (("A", first), ("B", second))
        ]
        out.print(Columns(panels, padding=(0, 1)))
        self._step(question, swapped)
        if question.assistable:
            if not question.assisted(self.labeler):
                self._print("You judge this pair without assistance: that shows what it does for you.", "dim")
            elif self.hidden:
                self._print("(assistance hidden; h shows it)", "dim")
            else:
                for one in answers:
                    out.print(self._line(one, swapped, {}))
                if self.ranked and any(confidence_of(one, self.knowing) is not None for one in answers):
                    self._print(f"(rank: {RANKS}; c hides it)", "dim")
        self._offers(question)

    def _step(self, question: Question, swapped: bool, by: int = 0) -> None:
        """Go on by so many pictures, and show those of both, side by side where there is room; nothing if there are
        none. What has fewer stays at its last."""
        shown = question.assisted(self.labeler) and not self.hidden
        sides = self._pictures(question, shown)[:: -1 if swapped else 1]
        most = max(map(len, sides))
        if not most:
            return
        self.step = min(most - 1, max(0, self.step + by))
        widest = max(len(row) for side in sides for one in side for row in visible(one.text).splitlines() or [""])
        panels = []
        for name, side in zip("AB", sides, strict=True):
            here = min(self.step, len(side) - 1)
            text = Text("no picture")
            if side:
                text = Text(f"{here + 1} of {len(side)}: {visible(side[here].caption)}\n", style="bold")
                painted = getattr(side[here], "image", False)
                told = "(a picture of pixels: the page shows it)" if painted else visible(side[here].text)
                text.append(f"\n{told}", style="not bold")
            panels.append(Panel(text, title=f"{name} drawn", title_align="left", width=max(self._half, widest + 4)))
        self.console.print(Columns(panels, padding=(0, 1)))

    def _pictures(self, question: Question, assisted: bool) -> list[Sequence[Picture | Frame]]:
        """Those that the task drew, else those of an episode's clip, of A and of B."""
        return [
            drawn or (clip.frames if clip else ())
            for drawn, clip in zip(question.pictures(assisted), self.clips, strict=True)
        ]

    @property
    def _half(self) -> int:
        return max(20, self.console.width // 2 - 1)

    def _prompt(self) -> str:
        progress = self.labels.progress(self.labeler)
        if self.labels.mixing:  # a control is in nothing else, which would tell it from the others
            return f"[{progress.judged} judged by you] > "
        left = f", about {progress.pace * progress.left / 60:.0f} min" if progress.pace else ""
        return f"[{progress.answered}/{progress.asked} of this round, {progress.left} left for you{left}] > "

    def _line(self, one: Said, swapped: bool, marks: dict[str, Verdict]) -> Text:
        side = "A" if one.at.startswith("a") != swapped else "B"
        text = Text("  " * one.depth + f"{side} ", style="dim")
        text.append(visible(one.by.name), style="bold not dim")
        text.append(f" {one.verdict}", style=STYLES[one.verdict])
        if one.accused:
            text.append(f" {visible(', '.join(one.accused))}", style="red not dim")
        if one.answer is not None and one.answer.unreadable:
            text.append(f" could not be read: {visible(one.answer.unreadable)}", style="not dim")
        if self.ranked and (rank := confidence_of(one, self.knowing)) is not None:
            text.append(f", ranks at {rank:.0%}")
        if one.at in marks:
            text.append(f"  (you: {MARKED[marks[one.at]]})", style="green")
        return text

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style))


def _offer(asked: Mapping[Kind, int], outcome: Outcome, name: str) -> str:
    """How one says of an outcome alone what is asked for."""
    key = name.lower()
    ways: dict[Kind, str] = {
        "rating": f"{key} 1 to {key} {asked.get('rating', 0)} rate it, 1 is the worst",
        "approval": f"{key} + approve, {key} - do not",
        "unacceptable": f"{key} ! unacceptable",
        "correction": f"{key} = TEXT what it should have been",
        "note": f"{key} : TEXT a note on it",
    }
    told = [ways[kind] for kind in offered(asked, outcome)]
    return f"of {name} alone, if you like: {'; '.join(told)}" if told else f"of {name} alone nothing is asked"


def _in_words(one: Remark) -> str:
    """A remark, for whoever made it."""
    texts = [one.better.text if one.better else "", one.text]
    return visible(": ".join([in_words(one.kind, one.value, one.levels), *filter(None, texts)]))
