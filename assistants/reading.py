"""The equations that stand in a line of text: marked ones, plain ones, and those with units and words between numbers.

What cannot be read for sure is passed over: a number written as elsewhere (1.234,5), a power, a mixed number (3 1/2),
words in a number's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rrm.core.errors import Malformed
from rrm_assistants.expressions import DIGITS, LINE, NUMBER, agrees, value

UNIT = 4
"""Most words between a number and the sign after it."""
_MARKED = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
_AFTER = re.compile(rf"\s{{0,3}}[$]?(-?(?:{NUMBER}))(?!\s{{0,3}}/\s{{0,3}}\d)")
_TOKEN = re.compile(
    rf"(?P<number>[$€£]?(?:{NUMBER})\s?%?)|(?P<word>[^\W\d_][^\W\d_'’-]*(?:['’-][^\W\d_]+)*)"
    r"|(?P<sign>[-+*×÷/–−])|(?P<equals>=)|(?P<open>\()|(?P<close>\))|(?P<other>\S)"
)
_LONG = re.compile(rf"[\d., ]{{{DIGITS},}}")
_SIGNS = {"×": "*", "x": "*", "X": "*", "÷": "/", "–": "-", "−": "-"}
_NO_UNIT = frozenset(
    """a an the so and or but because since if then when where which who that as is are was were be has have had he she
    it they we you i his her its their this these those there for from to than equals equal makes make gives give get
    gets plus minus times divided by multiplied per of in on at with let all""".split()  # noqa: SIM905
)
"""Words that are no part of a unit."""
_OPERATES = re.compile(
    r"(?:\b(?:times|plus|minus|by|twice|double|thrice|triple|less|more|than)"
    r"|(?:\b(?:half|third|quarter|fifth|tenth)s?|%|percent|\d) of(?: the)?)\s*[($]*$", re.IGNORECASE,
)  # fmt: skip
"""Words that do something to what follows."""
_FOREIGN = re.compile(r"\d,\d{1,2}(?!\d)|\d\.\d{3}[.,]\d|\d,\d{4}|\d['’]\d{3}|\d\.\d+\.\d|\\[a-zA-Z]|\^|[√²³½¼¾]")
_ALGEBRA = re.compile(
    r"(?<![\w$<])\d*(?:(?![aAI])[a-zA-Z])\s*(?:[=+*/×÷–−]|-(?!\w))"
    r"|[=+*/(–−-]\s*\d*(?:(?![aAI])[a-zA-Z])(?![\w'’-])|\d[a-z]\b"
)


@dataclass(frozen=True)
class Equation:
    """An expression, what it is said to be worth, and where both stand in the text."""

    left: str
    right: str
    span: tuple[int, int]

    @property
    def holds(self) -> bool:
        """Raises `Malformed` if the left side is no arithmetic."""
        return agrees(self.right, value(self.left))

    @property
    def computes(self) -> bool:
        """Whether its left side is worth something and there is a sign in it: <<32=32>> and 1/0 = 5 compute nothing."""
        if re.search(r"[\d)%]\s*[-+*/x×÷−–]", self.left) is None or _LONG.search(self.left + self.right):
            return False
        try:
            value(self.left)
        except Malformed:
            return False
        return True


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def equations(text: str) -> Iterator[Equation]:
    """The equations of a line: those marked `<<expression=value>>`, and those written out.

    A marked one counts twice: as it is marked, and with the number that follows the mark, which is what the text goes
    on with. Of one that is written out the words are left out: "3 books x $2/book = $6" is 3*$2 = $6. A line of more
    than `LINE` characters has none.
    """
    if len(text) > LINE:
        return
    for found in _MARKED.finditer(text):
        yield Equation(found[1].strip(), found[2].strip(), found.span())
        if after := _AFTER.match(text, found.end()):
            yield Equation(found[1].strip(), after[1], (found.start(), after.end()))
    hidden = _MARKED.sub(lambda found: " " * len(found[0]), text)  # columns stay what they are
    if _FOREIGN.search(hidden):
        return
    tokens = list(_tokens(hidden))
    for place, token in enumerate(tokens):
        if token.kind == "equals" and (found := _around(tokens, place, hidden)):
            yield found


def foreign(text: str) -> str:
    """The first thing in a text that these tools do not read (1.234,5, a power, LaTeX); "" if there is none."""
    found = _FOREIGN.search(_MARKED.sub(" ", text[:LINE]))
    return found[0] if found else ""


def bare(line: str) -> str:
    """A line without its marks, as it is read."""
    return _MARKED.sub("", line)


def algebra(line: str) -> bool:
    """Whether a line calculates with letters."""
    return _ALGEBRA.search(_MARKED.sub(" ", line[:LINE])) is not None


def _tokens(text: str) -> Iterator[_Token]:
    """With signs told from what looks like them: the x between numbers, the / of a unit, the - of a word."""
    found = [_Token(m.lastgroup or "", m[0], *m.span()) for m in _TOKEN.finditer(text)]
    for i, token in enumerate(found):
        before, after = (found[j] if 0 <= j < len(found) else None for j in (i - 1, i + 1))
        if i == 0 and token.text in "-*" and text[token.end : token.end + 1].isspace():  # of a list
            yield _Token("other", token.text, token.start, token.end)
        elif token.text in "xX" and after and after.kind in ("number", "open") and before and before.kind != "other":
            yield _Token("sign", "*", token.start, token.end)
        elif token.text in "/-" and after and after.kind == "word" and after.text not in "xX":
            yield _Token("word", token.text, token.start, token.end)
        elif token.kind == "sign":
            yield _Token("sign", _SIGNS.get(token.text, token.text), token.start, token.end)
        else:
            yield token


def _around(tokens: list[_Token], place: int, text: str) -> Equation | None:
    """The equation whose sign stands at `place`, None if it cannot be read."""
    right, i = "", place + 1
    while i < len(tokens) and tokens[i].text in ("-", "$"):  # -$5, $-5
        right, i = "-" if tokens[i].text == "-" else right, i + 1
    if i == len(tokens) or tokens[i].kind != "number":
        return None
    right, end = right + tokens[i].text.strip().lstrip("$€£"), tokens[i].end
    if text[end : end + 1].isalpha() and not text[end : end + 2].isalpha():  # 2x
        return None
    follows = next((t for t in tokens[i + 1 : i + 2 + UNIT] if t.kind != "word" or t.text.lower() in _NO_UNIT), None)
    if follows and follows.kind in ("sign", "open", "number"):
        return None
    start = _begin(tokens, place)
    if start is None or _OPERATES.search(text[max(0, tokens[start].start - 40) : tokens[start].start]):
        return None
    parts = [t for t in tokens[start:place] if t.kind != "word"]
    left = " ".join(t.text.strip() for t in parts)
    if not any(t.kind == "sign" for t in parts[1:]):
        return None
    return Equation(left, right, (tokens[start].start, end))


def _begin(tokens: list[_Token], place: int) -> int | None:
    """Where the expression that ends before an equals sign begins; None if that is not clear."""
    begin, depth, words = None, 0, 0
    due = True  # a number, with its unit, is to come; else a sign, or the beginning
    i = place - 1
    while i >= 0:
        token = tokens[i]
        if due and token.kind == "word":
            words += 1
            if words > UNIT or token.text.lower() in _NO_UNIT or (token.text.isalpha() and len(token.text) == 1):
                return None
        elif due and token.kind == "close":
            depth, words = depth + 1, 0
        elif due and token.kind == "number":
            begin, due, words = i, False, 0
        elif due:
            if tokens[i + 1].text != "-":
                return None
            begin, due = i + 1, False  # 3 * -5: a sign of its own
            continue
        elif token.kind == "sign":
            due = True
        elif token.kind == "open" and depth:
            begin, depth = i, depth - 1
        elif token.kind in ("number", "close"):  # 3 1/2, 2(3)
            return None
        else:
            break
        i -= 1
    if due and begin is not None and i < 0 and tokens[0].text == "-":
        begin, due = 0, False
    return None if due or depth else begin
