"""Who acts, by name: an algorithm, options of Stable-Baselines3's, and who writes the rest."""

from __future__ import annotations

import pytest

import rrm
from rrm.acting import Acting
from rrm.acting.policy import ActingPolicy
from rrm.core.errors import ConfigError, RRMError
from rrm.loop.training import acts, maker_of
from tests.acting.test_learning import Says, fitted
from tests.acting.test_places import task_in


@pytest.mark.parametrize(
    ("name", "options"),
    [("ppo", {}), ("ppo()", {}), ("a2c(gamma=1.0)", {"gamma": 1.0}), ("dqn( buffer_size = 20,)", {"buffer_size": 20}),
     ('sac(ent_coef="auto", seed=None)', {"ent_coef": "auto", "seed": None}), ("ppo(gamma=-1e-3)", {"gamma": -1e-3})],
)  # fmt: skip
def test_a_name_says_the_options(name: str, options: dict[str, object]) -> None:
    made = maker_of(name)
    assert acts(name) and isinstance(made, Acting) and made.options == options
    assert made.fingerprint == Acting(name.partition("(")[0], options).fingerprint
    assert (made.name == name.partition("(")[0]) == (not options) and acts(made.name)
    assert isinstance(again := maker_of(made.name), Acting) and again.fingerprint == made.fingerprint


@pytest.mark.parametrize(
    "given",
    ["0.1", "gamma", "gamma=", "gamma=print(1)", "**{}", "gamma=1)(x=2", "gamma=1 if 1 else 2", "a=1,a=2", "a={[]:1}"],
)
def test_what_is_no_option_is_an_error_that_says_how(given: str) -> None:
    with pytest.raises(ConfigError, match=r"ppo\(ent_coef=0.05, gamma=1.0\)"):
        maker_of(f"ppo({given})")


def test_an_option_that_the_algorithm_does_not_know_is_an_error_before_anything_is_judged() -> None:
    with pytest.raises(RRMError, match=r"does not take the options .*gama"):
        maker_of("ppo(gama=1.0)").policy(task_in("CartPole-v1"), 0)


def test_others_are_no_names_of_what_acts() -> None:
    for name in ("embedded", "./ppo", "ppo2", "ppo(", "ppo)", "(ppo)", "ppo+", "models/ppo(x=1)", ""):
        assert not acts(name)


def test_words_stand_behind_the_options() -> None:
    made = maker_of("ppo(gamma=1.0)+embedded")
    assert isinstance(made, Acting) and made.words is not None and made.options == {"gamma": 1.0}
    assert made.name == "ppo(gamma=1.0) and embedded"


def test_who_pays_for_entropy_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entropy may be worth less reward, as nats may."""
    task = task_in("Line")
    policy, reward, _ = fitted(task)
    assert isinstance(policy, ActingPolicy) and isinstance(task, rrm.Task)
    monkeypatch.setattr(ActingPolicy, "_better", lambda *_: False)
    for options, undone in (({}, True), ({"ent_coef": 0.0}, True), ({"ent_coef": 0.05}, False)):
        policy.options = options
        before = policy.version
        report = policy.improve(Says(reward), task.cases, task.settings, "go", lambda step, metrics: None)  # type: ignore[arg-type]
        assert report.undone == undone == (policy.version == before)
