"""Critics of prose: is it well written, does the plot hang together, do the characters develop, does it flow?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.core.tools import Tool
from rrm_assistants.text.critic import critic
from rrm_assistants.tools.grammar import Grammar


def writing(
    tool: Tool | None = Grammar(), assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None
) -> Task:
    """Spelling and grammar, with a grammar checker's report to hand."""
    question = {"writing": "Are the spelling and the grammar right?"}
    return critic("writing", question, ["writing"], tool=tool, assistants=assistants, difficulty=2, settings=settings)


def plot(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Retells the plot in a sentence, for a user who has not read it all, and says whether it hangs together."""
    question = {"plot": "Does the plot hang together? After your yes or no, tell in one sentence what happens."}
    return critic("plot", question, ["plot"], assistants=assistants, difficulty=5, settings=settings)


def characters(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Do the characters develop? Asked about the whole text, without a tool."""
    question = {"characters": "Do the characters develop: do they want something, and does it change them?"}
    return critic("characters", question, ["characters"], assistants=assistants, difficulty=5, settings=settings)


def flow(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Does each sentence lead on to the next? Asked about the whole text, without a tool."""
    question = {"flow": "Does each sentence lead on to the next?"}
    return critic("flow", question, ["flow"], assistants=assistants, difficulty=3, settings=settings)
