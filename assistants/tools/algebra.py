"""Whether the steps of a proof follow, by sympy and z3: those that are formulas; words it cannot read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report, code_hash, version_of
from rrm.core.verdicts import one_line
from rrm_assistants.tools.statements import mentioned
from rrm_assistants.tools.worker import Worker

SCRIPTS = ("serve_steps.py", "defined.py", "statements.py")
"""What decides a step."""
STEPS = 20
"""Most lines that are read."""
_PROOF = re.compile(r"^[^\w\n]*proof[^\w\n]*$|^[^\w\n]*proof[^\w\n]*[:.][*_ \t]*", re.IGNORECASE | re.MULTILINE)
_END = re.compile(r"^(?:#+\s|[^\w\n]*[A-Z][a-z]+[^\w\n]*:|\W*(?:qed|∎|□)\W*$)", re.IGNORECASE | re.MULTILINE)
_CONDITION = re.compile(
    r"\b(?:if|for|let|suppose|assume|given|where|when|whenever|with|provided|(?:non-?)?(?:zero|negative)|positive|odd|even"
    r"|integers?|primes?)\b", re.IGNORECASE,
)  # fmt: skip
"""Words of a claim that suppose something of its names."""
_STEP = re.compile(r"^[^\w\n]*(?:step|claim|line)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Algebra:
    """Questions: step1, step2, ... of the text's "Proof:", line by line. Whole numbers are i, j, k, m, n; the other
    letters are real, and so are all terms: sqrt(-1) is undefined. A step holds only if its terms are proved to be
    defined from what was assumed (whoever supposes y = 1/x supposes x != 0 too); one that divides by zero fails.
    One that a counterexample refutes fails only if all was read that was said of its names: "n is even" is not.

    seconds: time limit of the search for one step's proof, in seconds; after three times as much it is undecided.
    """

    seconds: float = 2.0
    name = "algebra"
    instruction = "Computer algebra looks for proofs and counterexamples of the steps of a proof."

    @property
    def version(self) -> str:
        """With those of sympy and z3, and a hash of the scripts. Raises `ToolMissing` if either is not installed."""
        scripts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in SCRIPTS]
        return f"{version_of(self, ['sympy', 'z3-solver'])}, {code_hash(*scripts)}"

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        lines = proof_lines(outcome.text)
        if not lines:
            raise Abstain("there is no proof")
        steps: list[tuple[str, str]] = []
        known: list[str] = []
        void: list[str] = []
        unread = set(_supposed(outcome.text))
        for line in lines:
            asked = {"line": line, "known": known, "void": void, "unread": sorted(unread), "seconds": self.seconds}
            try:
                said = _worker().ask(asked, 3 * self.seconds)
            except Abstain as why:  # one step that takes too long must not hide what is wrong with another
                steps.append(("undecided", str(why)))
                unread |= mentioned(line)
                continue
            steps.append((said["verdict"], said["why"]))
            known += [line] * said["usable"]
            void += said["void"]
            unread.update(said["unread"])
        findings = tuple(
            Finding(f"step{i}", verdict == "yes", note="" if verdict == "yes" else f'"{one_line(line, 80)}": {why}')
            for i, (line, (verdict, why)) in enumerate(zip(lines, steps, strict=True), 1)
            if verdict in ("yes", "no")
        )
        told = [f"step{i}: {verdict}" + (f" ({why})" if why else "") for i, (verdict, why) in enumerate(steps, 1)]
        if not findings:
            raise Abstain(f"no step could be decided: {'; '.join(told)}")
        return Report(findings, "\n".join(told))


def proof_lines(text: str) -> list[str]:
    """The lines of the proof in a text, to its end or the next section; none if there is no "Proof:"."""
    if (begin := _PROOF.search(text)) is None:
        return []
    lines = []
    for line in text[begin.end() :].splitlines():
        if lines and _END.match(line) and not _STEP.match(line):
            break
        if line.strip():
            lines.append(line.strip())
    return lines[:STEPS]


def _supposed(text: str) -> frozenset[str]:
    """Names of which the text supposes something before its proof, where nothing is read: "Claim: if x > 0, ..."."""
    begin = _PROOF.search(text)
    lines = text[: begin.start()].splitlines() if begin else []
    return frozenset(name for line in lines if _CONDITION.search(line) for name in mentioned(line))


@cache
def _worker() -> Worker:
    return Worker(SCRIPTS[0])
