"""Findings as lines of text: written by tools, and read from whoever answers in words.

    spelling: no "teh", "recieve"
    grammar: yes
    plot: N/A

One line for each question: its name, a colon, yes (it holds), no (it does not) or N/A, and, in words, what betrays it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rrm.core.errors import Malformed
from rrm.core.records import Finding

NOTE = 200
"""Longest note kept, in characters."""
QUOTED = 80
"""Most characters that an answer in its `form` quotes."""
SHOWN = 4000
"""Most characters of a text that a critic is shown."""
_YES, _NO, _NA = ("yes", "right"), ("no", "wrong"), ("n/a", "na", "not applicable")
_WORD = "|".join(map(re.escape, (*_YES, *_NO, *_NA)))
_VERDICT = re.compile(rf"(?P<verdict>{_WORD})(?![\w/])[\s.,;:!*_-]*(?P<note>.*)", re.IGNORECASE)
_LINE = re.compile(r"(?<![\w-])(?P<name>[\w-]++): (?P<verdict>yes|no|N/A)(?: (?P<note>.+))?")
_MARKUP = re.compile(r"^[\s>#*_\-•]*+(?:\d++[.)]\s*+)?[*_\s]*+")


def one_line(text: str, limit: int = NOTE) -> str:
    """The text without line breaks and control characters, cut to `limit` characters."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def write(findings: Iterable[Finding]) -> str:
    """The findings' lines; `parse` reads them back, except for `part`."""
    lines = []
    for finding in findings:
        note = one_line(finding.note)
        lines.append(f"{finding.fact}: {'yes' if finding.holds else 'no'}" + (f" {note}" if note else ""))
    return "\n".join(lines)


def parse(text: str) -> tuple[Finding, ...]:
    """What `write` wrote, to the first empty line: nothing that follows it is taken for a verdict.

    Raises `Malformed` at any other line.
    """
    findings = []
    for line in text.split("\n\n", 1)[0].splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise Malformed(f"{one_line(line, 80)!r} is no verdict; expected NAME: yes, NAME: no or NAME: N/A")
        if found["verdict"] != "N/A":
            findings.append(Finding(found["name"], found["verdict"] == "yes", note=found["note"] or ""))
    return tuple(findings)


def read(text: str, names: Sequence[str]) -> tuple[Finding, ...]:
    """The verdicts that a model or person gives on the questions `names`, in their order; N/A gives no finding.

    Markdown around a line is ignored, and so are lines that answer none of the questions. Where there is one question
    only, its name may be left out: then the first line must begin with the verdict ("Verdict:", "Answer:" and "The
    answer is" may stand before it). Raises `Malformed` if a question is not answered, or is answered twice and
    differently: a verdict is never guessed.
    """
    said: dict[str, list[tuple[bool | None, str]]] = {name: [] for name in names}
    lines = [line for line in (_MARKUP.sub("", raw).strip() for raw in text.splitlines()) if line]
    for line in lines:
        before, colon, after = line.partition(":")
        name = before.strip(" *_").lower()
        if colon and name in said and (found := _VERDICT.match(after.strip(" *_"))):
            said[name].append(_verdict(found))
    if len(names) == 1 and not said[names[0]] and lines:
        first = re.sub(r"^(?:the\s+)?(?:verdict|answer)\s*(?::|is\b:?)[\s*_\"]*", "", lines[0], flags=re.IGNORECASE)
        if found := _VERDICT.match(first):
            said[names[0]].append(_verdict(found))
    findings = []
    for name, verdicts in said.items():
        if not verdicts:
            raise Malformed(
                f"no verdict on {name!r}; expected a line that begins {name}: yes, {name}: no or {name}: N/A"
            )
        if len({verdict for verdict, _ in verdicts}) > 1:
            raise Malformed(f"two different verdicts on {name!r}; expected one")
        verdict, note = verdicts[0]
        if verdict is not None:
            findings.append(Finding(name, verdict, note=note))
    return tuple(findings)


def _verdict(found: re.Match[str]) -> tuple[bool | None, str]:
    word = found["verdict"].lower()
    return (None if word in _NA else word in _YES), one_line(found["note"].strip(" *_"))


def quotes(note: str) -> list[str]:
    """What a note quotes: the texts in straight or curly double quotation marks."""
    return [a or b for a, b in re.findall(r'"([^"]++)"|“([^“”]++)”', note)]


# --- asking for them ---------------------------------------------------------------------------------


def prompt(questions: Mapping[str, str], text: str, said: Sequence[str] = ()) -> str:
    """What a critic reads: the text, what a tool says of it, the questions, and how to answer."""
    cut = text[:SHOWN] + (" [...]" if len(text) > SHOWN else "")
    asked = "\n".join(questions.values())
    return "\n\n".join(["Text:\n" + cut, *said, f"{asked} {_how(list(questions))}"])


def _how(names: Sequence[str]) -> str:
    """How to answer. To one question without its name: small models begin with yes or no, but copy names at random; and
    without N/A, which they take for most texts: a critic is not asked where there is nothing to judge."""
    if len(names) == 1:
        return "Begin your answer with yes or no. After no, quote the words that are wrong."
    lines = "\n".join(f'{name}: yes, or {name}: no "the words that are wrong", or {name}: N/A' for name in names)
    return f"Answer with {len(names)} lines:\n{lines}"


def form(names: Sequence[str]) -> str:
    """The form of an answer to the questions `names`, as `prompt` asks for it: what it says of whom is free."""
    no = rf'no,? "[^"\n]{{2,{QUOTED}}}"'
    if len(names) == 1:
        return rf"(yes|{no})([.,:;]? [^\n]{{0,200}})?"
    verdict = f"(yes|N/A|{no})"
    return r"\n".join(f"{re.escape(name)}: {verdict}" for name in names)
