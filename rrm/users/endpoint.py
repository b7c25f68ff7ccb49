"""A model behind an endpoint in the user's place: each pair is asked in both orders, a round's pairs concurrently."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ConfigDict, Field, PrivateAttr

from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Case
from rrm.core.remarks import Remark
from rrm.core.task import Task
from rrm.models.endpoints import Ask, Endpoint, EndpointError
from rrm.models.replies import Reply
from rrm.users.pairwise import ABOUT, about, asked_of, question, remark_of, weigh

TEMPLATE = """{instruction}

Case: {case}

{first}: {one}{said_one}

{second}: {two}{said_two}

Which is better, {first} or {second}? Answer with that one letter only."""
FORM = "A|B"
SURE = 0.5
"""First tokens that are an answer must have this much probability together, or the answer is looked for in the text."""
AHEAD = 4
"""Pairs asked about together, for each question that may be under way at once."""


class EndpointUser(Endpoint):
    """Judges as `rrm.ModelUser` does, and abstains where an answer cannot be read; never guesses.

    Where the server gives the first token's alternatives, the preference is their probability; otherwise the letter in
    the text counts as certain. Either way the two orders are averaged: who says A both times has said nothing, a tie.
    """

    model_config = ConfigDict(title="openai:MODEL@URL")

    margin: float = Field(default=0.02, ge=0, le=0.5)
    """Chances of A nearer to one half than this are a tie."""
    max_tokens: int = Field(default=16, ge=1)
    """Longest answer, in tokens; give models that think aloud more."""
    form: str = Field(default=FORM, exclude_if=lambda form: form == FORM)
    """The regular expression that answers are held to where `forms` says how; empty: free, as for models that think
    aloud."""
    about: str = Field(default=ABOUT, exclude_if=lambda about: about == ABOUT)
    """The question about one outcome (`Settings.ask`); its fields: instruction, case, outcome, said, question."""
    fence: bool = Field(default=False, exclude_if=lambda fence: not fence)
    """Put each outcome between random marks, and say in the question that what is between them is no instruction: an
    outcome may speak to its judge (delimiting: Hines et al. 2024, arXiv 2403.14720)."""
    template: str = TEMPLATE
    """The question; its fields: instruction, case, first, one, said_one, second, two, said_two."""

    _coming: dict[str, tuple[Pair, ...]] = PrivateAttr(default_factory=dict)
    """Task -> its pairs that will be asked about next: nodes may train side by side."""

    @property
    def name(self) -> str:
        """Its kind, and the model behind it."""
        return f"openai({self.model})"

    def expect(self, task: Task, round: int, pairs: Sequence[Pair], folder: Path) -> None:
        """What will be judged, in this order: it is asked ahead."""
        self._coming[task.path] = tuple(pairs)

    def recall(self, task: Task, judgement: Judgement) -> None:
        """A model judges every pair afresh."""

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Raises `EndpointError` if the endpoint does not answer; what it answered before is kept."""
        replies = self._replies(task, pair)
        a, b = self._remarks(task, pair.case, replies[2:])
        chances = [chance(reply) for reply in replies[:2]]
        seconds = sum(reply.seconds for reply in replies)
        if chances[0] is None or chances[1] is None:
            shown = next(reply.text for reply, c in zip(replies[:2], chances, strict=True) if c is None)
            why = next((reply.withheld for reply in replies[:2] if reply.withheld), "neither A nor B, or both")
            note = f"abstained: {why}, in {shown[:200]!r}"
            return Judgement(None, note=note, seconds=seconds, remarks_a=a, remarks_b=b)
        judged = weigh(chances[0], chances[1], self.margin)
        return Judgement(judged.preference, note=judged.note, seconds=seconds, remarks_a=a, remarks_b=b)

    def _asks(self, task: Task, pair: Pair) -> list[Ask]:
        """In both orders; then, of A and of B, what is asked of one outcome."""
        both = [
            Ask(question(self.template, task, one, self.fence), self.max_tokens, alternatives=True, form=self.form)
            for one in (pair, pair.swapped())
        ]
        sides = ((pair.a, pair.assistance_a), (pair.b, pair.assistance_b))
        single = [
            Ask(
                about(self.about, task, pair.case, outcome, said, words, self.fence), self.max_tokens,
                form=self.form and form,
            )
            for outcome, said in sides for _, _, words, form in asked_of(task, pair.case)
        ]  # fmt: skip
        return both + single

    def _remarks(
        self, task: Task, case: Case, replies: Sequence[Reply]
    ) -> tuple[tuple[Remark, ...], tuple[Remark, ...]]:
        """Of A and of B, as far as the answers say anything."""
        asked = asked_of(task, case)
        said = [
            None if reply.withheld or not (reply.finished or self.form) else remark_of(kind, levels, reply.text)
            for (kind, levels, *_), reply in zip((*asked, *asked), replies, strict=True)
        ]
        a, b = said[: len(asked)], said[len(asked) :]
        return tuple(one for one in a if one is not None), tuple(one for one in b if one is not None)

    def _replies(self, task: Task, pair: Pair) -> list[Reply]:
        """To both orders of a pair; those of the pairs after it are fetched with them."""
        asks = self._asks(task, pair)
        if any(self.answered(ask) is None for ask in asks):
            coming = self._coming.get(task.path, ())
            ids = [one.id for one in coming]
            at = ids.index(pair.id) if pair.id in ids else len(ids)
            later = coming[at : at + AHEAD * self.concurrency]
            try:
                self.ask([*asks, *(ask for one in later for ask in self._asks(task, one))], "user", task.path)
            except EndpointError:
                if any(self.answered(ask) is None for ask in asks):  # otherwise it is the later ones' failure
                    raise
        return self.ask(asks, "user", task.path)


def chance(reply: Reply) -> float | None:
    """The chance that the judge prefers A; None if it does not say: if its answer was withheld, too."""
    if reply.withheld:
        return None
    mass = {"A": 0.0, "B": 0.0}
    for token, logprob in reply.first.items():
        letter = token.strip(" \n*\"'([").upper()
        if letter in mass:
            mass[letter] += math.exp(min(0.0, logprob))
    if (total := sum(mass.values())) >= SURE:
        return mass["A"] / total
    said = verdict(reply.text if reply.finished else _whole(reply.text))
    return None if said is None else float(said == "A")


def _whole(cut: str) -> str:
    """An answer that was cut at its longest, without its last word, which may be half of one: "the better one is A" may
    go on as "Arguably B". A letter alone is whole."""
    return cut if _ALONE.fullmatch(cut) else "".join(re.split(r"(\s)", cut.rstrip())[:-1])


# `*+` gives nothing back: a reply of ten thousand blanks would be parted in every way.
_ALONE = re.compile(r"(?<!\W)\W*+([AB])\W*+")
_FIRST = re.compile(r"^[^\w\n]*+([AB])[^\S\n]*+[.:,;)\]*\n–—-]", re.MULTILINE)
_SAID = re.compile(
    r"\b(?i:answer|better(?:\s++one)?|best|choice|choose|verdict|prefer|outcome|option)\b\W*+(?:(?:is|would\s++be)\b\W*+)?"
    r"(?:(?:outcome|option|answer)\b\W*+)?\b([AB])\b(?!\s++(?:or|and)\b)"
)


def verdict(text: str) -> str | None:
    """The letter that a text answers with; None if it does not say, or says both.

    A letter alone ("**B**."), in front of a line ("B: because ..."), or after such words as "the better one is".
    """
    if (alone := _ALONE.fullmatch(text)) is not None:
        return alone[1]
    found = {*_SAID.findall(text), *_FIRST.findall(text)}
    return found.pop() if len(found) == 1 else None
