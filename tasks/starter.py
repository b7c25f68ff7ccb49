"""Take 1 to 3 stones from a pile; whoever takes the last one wins. A tree to begin with: change it.

An agent learns to move from what a user thinks of its moves. The user knows the rules, plays on at random, and prefers
the move that wins more often, so it misses what a good opponent would do. That is what the assistant shows: a reply.
"""

from rrm import Settings, Task
from rrm.worlds.games import Pile, Positions, facts, findings, frame

GAME = Pile(stones=15, most=3)  # lost for whoever finds a multiple of 4; neither user nor agent is told

# A turn of the loop at a node: moves are sampled, the user judges pairs of them, a reward model learns that, the agent
# is optimized against it. `rrm settings` says what each means; --set '*.steps=60' changes one for a try.
SETTINGS = Settings(
    rounds=1, cases=30, outcomes=6, comparisons=120, max_tokens=8, choose="random", explore=0.5, holdout=0.2,
    improver="best_of_n", steps=40, batch=16, lr=2e-3, caution=0.0, accept=16,
)  # fmt: skip

# What helps the user to judge a move. It is a task of its own, so it is trained first, in the same way.
reply = Task(
    "reply",
    instruction="Which reply is better: after which of them does whoever makes it win?",
    frame=frame,  # its cases: the positions that its parent's moves lead to
    findings=findings,  # what a reply says of the move it answers: that it does not win
    facts=facts,  # what is true of a reply; sealed, so that only who pays attention sees it
    covers=("wins",),  # what it assesses of its parent's outcomes
    settings=SETTINGS,
)
task = Task(
    "pile",
    instruction="Which move is better: after which of them does whoever makes it win?",
    cases=Positions(GAME),  # anything with draw(n, key) -> cases
    facts=facts,
    aspects=("wins",),  # all that counts in a move: `rrm check` warns of what no assistant covers
    assistants=(reply,),  # none: ()
    usual={"model": "embedded-games", "user": "playout"},  # unless --model and --user say otherwise
    settings=SETTINGS,
)
