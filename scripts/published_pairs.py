"""A tree for scoring published pairs: one node that learns of imported labels which answer people prefer, and a grammar
tool beside it. What it trains is a reward model; its agent hardly moves.

    rrm import llmbar/natural.jsonl --out runs/natural --node answer
    rrm train scripts/published_pairs.py --out runs/natural --model smollm2
    rrm score runs/natural answer llmbar/adversarial_manual.jsonl --tree scripts/published_pairs.py
"""

from rrm import Case, Pool, Settings, Task, tool_assistant
from rrm_assistants.tools.grammar import Grammar

ASKED = (
    "Name three uses of a brick.", "Explain in two sentences why the sky is blue.", "Write a polite refusal.",
    "List the planets of the solar system.",
)  # fmt: skip

task = Task(
    "answer",
    instruction="Two answers to one instruction. Which of them does better what the instruction says?",
    facts=lambda case, outcome: [],
    cases=Pool(tuple(map(Case, ASKED))),
    assistants=(tool_assistant(Grammar(), covers=("language",), difficulty=1),),
    aspects=("language",),
    difficulty=2,
    settings=Settings(
        rounds=1, cases=2, outcomes=2, comparisons=2, max_tokens=32, steps=1, batch=2, group=2, accept=0,
        reward_sees="outcome",
    ),
)
