"""Forms over the wire: how servers are told the regular expression that an answer is held to.

A form is a regular expression in the syntax of Rust's regex (`rrm.models.form`). vLLM and SGLang take it as it is;
llama.cpp takes a grammar (GBNF), into which the plain part of that syntax is translated: literals, classes, groups,
alternatives, repetitions. What has no translation is said, not left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from rrm.core.errors import ConfigError

Dialect = Literal["none", "vllm", "sglang", "llama.cpp"]
"""Which servers understand: vLLM's `structured_outputs`, SGLang's `regex`, llama.cpp's `grammar`."""

MARKS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
KINDS = {"d": "0-9", "w": "0-9A-Z_a-z", "s": "\t\n\r "}
"""ASCII only: of what Rust's mean, a part."""
QUOTED = {"\n": r"\n", "\t": r"\t", "\r": r"\r", '"': r"\"", "\\": r"\\"}
SPECIAL = {**QUOTED, "[": r"\[", "]": r"\]", '"': '"'}


def form_fields(dialect: Dialect, form: str) -> Mapping[str, Any]:
    """The fields of a request that hold its answer to a form. Raises `ConfigError` for a form without translation."""
    if dialect == "vllm":
        return {"structured_outputs": {"regex": form}}
    if dialect == "sglang":
        return {"regex": form}
    return {"grammar": gbnf(form)} if dialect == "llama.cpp" else {}


def gbnf(form: str) -> str:
    """A form as llama.cpp's grammar: of the same texts, but that `\\d`, `\\w` and `\\s` are ASCII's.

    Raises `ConfigError` for what has no translation."""
    return f"root ::= {_Translation(form).whole()}"


class _Translation:
    """Goes through a form once, from the left."""

    def __init__(self, form: str) -> None:
        self.form, self.at = form, 0

    def whole(self) -> str:
        made = self._alternatives()
        if self.at < len(self.form):
            raise self._none("a ) too many")
        return made

    def _none(self, what: str) -> ConfigError:
        return ConfigError(
            f"the form {self.form!r} cannot be written as llama.cpp's grammar: {what}, at character {self.at + 1}; "
            "write it with literals, classes, groups, | and repetitions, or use another server"
        )

    def _ahead(self) -> str:
        return self.form[self.at : self.at + 1]

    def _take(self) -> str:
        char = self._ahead()
        if not char:
            raise self._none("it ends too early")
        self.at += 1
        return char

    def _alternatives(self) -> str:
        made = [self._sequence()]
        while self._ahead() == "|":
            self.at += 1
            made.append(self._sequence())
        return " | ".join(made)

    def _sequence(self) -> str:
        made = []
        while self._ahead() not in ("", "|", ")"):
            made.append(self._atom() + self._repetition())
        return " ".join(made) or '""'

    def _atom(self) -> str:
        char = self._ahead()
        if char in "^$*+?{":
            raise self._none(f"{char!r} there")
        self.at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == ".":
            return r"[^\n]"
        if char == "\\":
            kind = self._ahead()
            if kind and kind in KINDS:
                self.at += 1
                return f"[{_listed(KINDS[kind])}]"
            char = self._escaped()
        return f'"{QUOTED.get(char, char)}"'

    def _group(self) -> str:
        if self._ahead() == "?":
            self.at += 1
            kind = self._take()
            if kind == "P":
                kind = self._take()
            if kind == "<":
                while self._take() != ">":
                    pass
            elif kind != ":":
                raise self._none(f"(?{kind}")
        made = self._alternatives()
        if self._take() != ")":
            raise self._none("a ( without its )")
        return f"({made})"

    def _escaped(self) -> str:
        char = self._take()
        if char == "x":
            digits = self._take() + self._take()
            try:
                return chr(int(digits, 16))
            except ValueError:
                raise self._none(f"\\x{digits}") from None
        if char in MARKS and char != "0":
            return MARKS[char]
        if char.isalnum():
            raise self._none(f"\\{char}")
        return char

    def _class(self) -> str:
        """Characters and ranges; what begins a class within a class, or takes from one, has no translation."""
        negated = self._ahead() == "^"
        self.at += negated
        parts: list[str] = []
        while self._ahead() != "]" or not parts:
            char = self._take()
            if char == "[" or self.form[self.at - 1 : self.at + 1] in ("&&", "--", "~~"):
                raise self._none("a class within a class")
            if char == "\\" and self._ahead() in KINDS and self._ahead():
                if negated:
                    raise self._none("\\d, \\w or \\s within [^...]")
                parts.append(_listed(KINDS[self._take()]))
                continue
            low = self._escaped() if char == "\\" else char
            if self._ahead() == "-" and self.form[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                char = self._take()
                high = self._escaped() if char == "\\" else char
                if high < low or char in "[-":
                    raise self._none(f"{low}-{high}")
                parts.append(f"{_coded(low)}-{_coded(high)}")
            else:
                parts.append(low if low in "^-" else SPECIAL.get(low, low))
        self.at += 1
        if not negated and {*parts} == {"^"}:
            return '"^"'
        parts.sort(key=_last)
        return f"[{'^' if negated else ''}{''.join(dict.fromkeys(parts))}]"

    def _repetition(self) -> str:
        char = self._ahead()
        if not char or char not in "*+?{":
            return ""
        self.at += 1
        made = char
        if char == "{":
            while made[-1] != "}":
                made += self._take()
            low, _, high = made[1:-1].partition(",")
            if not low.isdecimal() or (high and not high.isdecimal()) or (high and int(high) < int(low)):
                raise self._none(made)
        if self._ahead() == "?":  # as few as it can be: of the same texts
            self.at += 1
        if self._ahead() and self._ahead() in "*+?{":
            raise self._none("a repetition of a repetition")
        return made


def _listed(kind: str) -> str:
    return "".join(QUOTED.get(char, char) for char in kind)


def _coded(char: str) -> str:
    """As it stands at an end of a range: what means something there by its number."""
    return f"\\x{ord(char):02X}" if char in "-^]\\[" else QUOTED.get(char, char)


def _last(part: str) -> int:
    """Where a part of a class stands: numbers behind all that could be taken for their digits, ^ not first, - last."""
    return 3 if part == "-" else 2 if part == "^" else 1 if "\\x" in part else 0
