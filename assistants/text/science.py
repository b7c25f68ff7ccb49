"""Critics of papers: is it new, were the experiments done right, are the proofs correct?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Tool
from rrm_assistants.text.critic import critic, examined
from rrm_assistants.tools.algebra import Algebra, proof_lines
from rrm_assistants.tools.novelty import Novelty
from rrm_assistants.tools.rerun import Rerun, computation

_CLAIM = re.compile(r"^[^\w\n]*(?:title|claim)[^\w\n]*:.*$", re.IGNORECASE | re.MULTILINE)


def claim(text: str) -> str:
    """The lines of a paper that say what it claims; the whole text if none is marked as such."""
    return "\n".join(line.strip() for line in _CLAIM.findall(text)) or text.strip()


def novelty(
    tool: Tool | None = Novelty(()), assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None
) -> Task:
    """Is the claim new? With the known works that are most like it to hand: `novelty(Novelty(works))`."""
    question = {"novelty": "Is the claim new?"}
    return critic(
        "novelty", question, ["novelty"], claim, tool, assistants=assistants, difficulty=4, settings=settings
    )


def rerun(tool: Tool = Rerun()) -> Assistant:
    """Runs the stated computation again; helps to judge the critic of experiments."""
    return tool_assistant(tool, ["experiments"], examines=examined, difficulty=2)


def algebra(tool: Tool = Algebra()) -> Assistant:
    """Proves or refutes single steps; helps to judge the critic of proofs."""
    return tool_assistant(tool, ["proofs"], examines=examined, difficulty=2)


def experiments(assistants: Sequence[Task | Assistant] | None = None, settings: Settings | None = None) -> Task:
    """Does the result follow? A paper that states no computation has none: N/A."""
    question = {"experiments": "Does the stated result follow from the computation, and the claim from the result?"}
    below = (rerun(),) if assistants is None else tuple(assistants)
    return critic(
        "experiments", question, ["experiments"], _computed, assistants=below, difficulty=6, settings=settings
    )


def proofs(assistants: Sequence[Task | Assistant] | None = None, settings: Settings | None = None) -> Task:
    """Does every step follow? A paper without a proof has none: N/A."""
    question = {"proofs": "Does every step of the proof follow from those before it?"}
    below = (algebra(),) if assistants is None else tuple(assistants)
    return critic("proofs", question, ["proofs"], _proof, assistants=below, difficulty=6, settings=settings)


def _proof(text: str) -> str:
    return "\n".join(proof_lines(text))


def _computed(text: str) -> str:
    return text.strip() if computation(text) is not None else ""
