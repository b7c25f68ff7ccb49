"""Tools: programs whose reports are evidence for the user. A report can be wrong, like any other assistance.

A tool examines one outcome. Its report reaches the user in one of two ways:
- `tool_assistant(tool)`: a finished assistant whose answers are the tool's reports. There is nothing to train and no
  reward model, so its answers come without confidence.
- `evidence(tool, case, outcome)`: text for the prompt of a subtask (in its `frame`), whose agent is trained like any
  other and may learn when to distrust the tool.

A tool that cannot judge says so (`Abstain`): that is N/A with its reason, never a verdict. Any other exception is a
fault in the tool, and stops the run.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from rrm.core import border
from rrm.core.errors import Abstain, ToolMissing
from rrm.core.extras import bring
from rrm.core.records import Case, Finding, Outcome, digest
from rrm.core.verdicts import one_line, write


@dataclass(frozen=True)
class Report:
    """What a tool found.

    findings: by names of the parent's facts where it has such, or of the tool's own questions ("spelling"). A finding's
        `note` quotes what betrays it.
    text: details for whoever reads more than the verdicts.
    """

    findings: tuple[Finding, ...]
    text: str = ""
    abstained: str = ""
    """Why there is no verdict; then there are no findings."""

    @property
    def answer(self) -> str:
        """The report as an outcome: verdicts first, details after an empty line."""
        head = f"N/A: {one_line(self.abstained)}" if self.abstained else write(self.findings)
        return f"{head}\n\n{self.text}" if self.text else head


AS_IN_0_1_0 = {"95b4ad9b": "43d96b32", "6ee91646": "19b0f861"}
"""What `code_hash` is -> what 0.1.0, which hashed docstrings too, called the same code: its runs still resume."""


class Tool(Protocol):
    """A function from an outcome to a report, with a name and a version. Make it a frozen dataclass of its settings.

    name: one word; the name of its assistant.
    instruction: what it looks for, in a sentence, for people.
    version: changes when anything that decides its reports does (see `version_of`). Raises `ToolMissing` if what the
        tool needs is not installed, so that a run stops at its start.
    call: raises `Abstain` if it cannot judge the outcome. Libraries are imported here, when they are needed.
    """

    @property
    def name(self) -> str:
        """One word."""
    @property
    def instruction(self) -> str:
        """What it looks for, for people."""
    @property
    def version(self) -> str:
        """Of everything that decides its reports."""
    def __call__(self, case: Case, outcome: Outcome) -> Report: ...


def installed(package: str, extra: str) -> str:
    """The version of an installed package. Raises `ToolMissing` naming the extra that brings it."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise ToolMissing(
            f"{package} is not installed; {bring(extra)}"
        ) from error


def version_of(tool: object, packages: Sequence[str] = (), extra: str = "tools") -> str:
    """A readable version: "harper-py 0.2.0, 1f0c": its packages, and a hash of its class and settings (`repr`)."""
    parts = [f"{package} {installed(package, extra)}" for package in packages]
    return ", ".join([*parts, digest(type(tool).__qualname__, repr(tool))[:8]])


def code_hash(*sources: str) -> str:
    """8 hex digits of Python sources without their docstrings: what a docstring says changes no report, and so no
    version of a tool that rests on the code."""
    found = digest(*map(_without_docstrings, sources))[:8]
    return AS_IN_0_1_0.get(found, found)


def _without_docstrings(source: str) -> str:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    left: list[str | None] = [*source.splitlines()]
    for node in (node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and node.body):
        first = node.body[0]
        said = first.value if isinstance(first, ast.Expr) else None
        if isinstance(said, ast.Constant) and isinstance(said.value, str):
            left[first.lineno - 1 : first.end_lineno] = [None] * ((first.end_lineno or 0) - first.lineno + 1)
    return "\n".join(line for line in left if line is not None)


def consult(tool: Tool, case: Case, outcome: Outcome) -> Report:
    """The tool's report; one without findings that gives its reason, if the tool abstains. Raises `BorderError` naming
    it, and the line, if it breaks."""
    try:
        with border.told(f"the tool {tool.name!r}"):
            report = tool(case, outcome)
    except Abstain as why:
        return Report((), abstained=str(why) or "no reason given")
    if not report.findings and not report.abstained:
        raise TypeError(f"tool {tool.name!r} gave no findings; a tool without a verdict raises Abstain with its reason")
    return report


def evidence(tool: Tool, case: Case, outcome: Outcome) -> str:
    """The tool's report as part of a prompt, named, with the warning that it can be wrong."""
    return f"The tool {tool.name} says (it can be wrong):\n{consult(tool, case, outcome).answer}"
