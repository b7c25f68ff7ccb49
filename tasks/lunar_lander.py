"""LunarLander, learned from comparisons alone: which of two flights went better?

Gymnasium's LunarLander-v3 (the wheel of `gymnasium[box2d]`), whose own reward no agent is shown. As in Christiano et
al. 2017 (arXiv 1706.03741, section 3.1), that reward stands in for people's judgement: the user sees how much a flight
has earned, in steps of twenty. Where in the flight it lay is for the reward model to find out.
"""

from __future__ import annotations

from rrm import Case, Fact, Outcome, Pool, Sealed, Settings, Task
from rrm.acting import cases, episode_of

STEPS = 400
"""After which a flight is cut off."""
SETTINGS = Settings(
    rounds=10, cases=24, outcomes=4, comparisons=60, explore=0.05, accept=0, reward_sees="outcome", reward_epochs=20,
    reward_batch=8, steps=8, batch=16, lr=1e-3, kl=0.0, max_kl=1e6,
)  # fmt: skip
"""Many short rounds: after few long ones it hovers, and flights that are all alike teach nothing (seed 0)."""
MODEL = "ppo(ent_coef=0.03, gae_lambda=0.98, gamma=0.999, n_epochs=4)"


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """`earned<n>`: the flight earned at least so much. Seen at a glance, for nothing."""
    earned = float(episode_of(outcome).hidden["reward"].sum())
    return [Fact(f"earned{n}", "flying", Sealed(earned >= n), cost=0) for n in range(-400, 301, 20)]


def lunar_lander(settings: Settings = SETTINGS, n: int = 64) -> Task:
    """The task; it needs no assistants, since there is nothing that the user cannot see."""
    return Task(
        "lunar_lander",
        instruction="Which flight went better: calm, near the pad, sparing with fuel, down in one piece?",
        facts=facts,
        cases=Pool(cases("LunarLander-v3", n, "Land between the flags.", steps=STEPS)),
        aspects=("flying",),
        usual={"model": MODEL},
        settings=settings,
    )


task = lunar_lander()
