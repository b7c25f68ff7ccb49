"""CartPole, learned from comparisons alone: which of two tries kept the pole up for longer?

Gymnasium's classic (Barto, Sutton and Anderson 1983), whose own reward no agent is shown. The user sees how long each
try lasted; what there is to learn from it is which states and pushes lead there.
"""

from __future__ import annotations

from rrm import Case, Fact, Outcome, Pool, Sealed, Settings, Task
from rrm.acting import cases, episode_of

STEPS = 500
"""After which a try is cut off."""
APART = 10
"""Steps between two moments that are facts."""
SETTINGS = Settings(
    rounds=4, cases=12, outcomes=4, comparisons=62, explore=0.25, accept=12, reward_epochs=10, reward_batch=4, steps=20,
    batch=8, lr=3e-4, kl=0.0, max_kl=1e6,
)  # fmt: skip


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """`up<n>`: after n steps the pole still stands. Anyone sees that at a glance, for nothing."""
    lasted = len(episode_of(outcome))
    return [Fact(f"up{n}", "standing", Sealed(lasted >= n), cost=0) for n in range(APART, STEPS + 1, APART)]


def cart_pole(settings: Settings = SETTINGS, n: int = 64) -> Task:
    """The task; it needs no assistants, since there is nothing that the user cannot see."""
    return Task(
        "cart_pole",
        instruction="Which try kept the pole up for longer?",
        facts=facts,
        cases=Pool(cases("CartPole-v1", n, "Keep the pole up.", steps=STEPS)),
        aspects=("standing",),
        usual={"model": "ppo"},
        settings=settings,
    )


task = cart_pole()
