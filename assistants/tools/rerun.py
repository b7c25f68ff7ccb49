"""Whether a stated result follows from the stated computation: the computation is run again, in the sandbox.

    Computation:
    ```
    scores = [71, 74, 78]
    print(sum(scores) / len(scores))
    ```
    Result: 74.33

"Computation: (71 + 74 + 78) / 3" does as well. Whether the computation was the right one to make, this tool cannot say.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report, code_hash, version_of
from rrm.core.verdicts import one_line
from rrm_assistants.tools.sandbox import JAIL, Limits, run

_CODE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_LINE = re.compile(r"^[^\w\n]*computation[^\w\n]*:[*_` \t]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_RESULT = re.compile(r"^[^\w\n]*result[^\w\n]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"[-+−]?(?:\d[\d,]*+(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d{1,3})?")
_OTHERWISE = re.compile(
    r"\d\.\d{3}[.,]\d|\d,\d{1,2}(?!\d)|\d[ \u00a0\u2009\u202f]\d|\d\s*(?:/\s*\d|[x×*]\s*10|\^)|\d\s?[kKmMbB]\b"
    r"|[½¼¾²³]|\\[a-zA-Z]"
)
"""A number that is written otherwise than the computation prints it: 1.234,5 and 1 000, 3/4, 3 x 10^8, 5k."""


@dataclass(frozen=True)
class Rerun:
    """Question: result. It holds if the last number printed rounds to the number stated.

    language: see `sandbox`.
    """

    limits: Limits = field(default_factory=Limits)
    language: Literal["arithmetic", "python"] = "arithmetic"
    name = "rerun"
    instruction = "The stated computation is run again, and its result compared with the one stated."

    @property
    def version(self) -> str:
        """With a hash of jail.py, which decides what can run."""
        return f"{version_of(self)}, {code_hash(JAIL.read_text(encoding='utf-8'))}"

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        code = computation(outcome.text)
        stated = _RESULT.search(outcome.text)
        said = _NUMBER.findall(stated[1]) if stated else []
        if code is None or not said:
            raise Abstain("no computation is stated" if code is None else "no number is stated as its result")
        if stated is not None and (odd := _OTHERWISE.search(stated[1])):
            raise Abstain(f'the result "{one_line(stated[1], 60)}" is not read: {one_line(odd[0], 20)!r} in it')
        ran = run(code, self.limits, self.language)
        if ran.fault:
            raise Abstain(f"the computation could not be run again: {ran.fault}")
        printed = _NUMBER.findall(ran.output)
        if not printed:
            raise Abstain("the computation prints no number")
        holds = agrees(said[0], printed[-1])
        if not holds and stated is not None and re.search(r"\d\s*(?:%|percent)", stated[1]):
            holds = agrees(said[0], str(100 * Decimal(printed[-1].replace(",", "").replace("−", "-"))))
        if not holds and len(said) > 1 and any(agrees(other, printed[-1]) for other in said[1:]):
            raise Abstain("several numbers are stated as its result")
        note = "" if holds else f'"{one_line(stated[1] if stated else "", 60)}": it is {one_line(printed[-1], 40)}'
        return Report((Finding("result", holds, note=note),), f"It printed {one_line(ran.output, 120)}")


def computation(text: str) -> str | None:
    """The code that a text states; None if it states none. A bare term is printed."""
    if found := _CODE.search(text):
        code = found[1]
    elif found := _LINE.search(text):
        code = found[1].split("=")[0].strip(" `")
    else:
        return None
    code = code.strip()
    try:
        ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code or None
    return code if code.startswith("print(") else f"print({code})"


def agrees(stated: str, computed: str) -> bool:
    """Whether the computed number, rounded to as many digits as were stated, is the stated one."""
    said, is_ = (Decimal(text.replace(",", "").replace("−", "-")) for text in (stated, computed))
    exponent = said.as_tuple().exponent
    assert isinstance(exponent, int)
    return abs(said - is_) <= Decimal((0, (5,), exponent - 1)) * Decimal("1.000001")
