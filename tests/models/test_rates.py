"""Learning rates by the size of what is trained, unless they are set."""

import json

import pytest

from rrm import BoundedUser, Settings, train
from rrm.command.configuration import configure
from rrm.learning import improving
from rrm.learning.improving import Updater
from rrm.learning.rates import rate, usual
from rrm.learning.text_maker import TextMaker
from rrm.loop.reopen import reward_of
from rrm.models.backbone import TINY
from tests import toy


class Sized:
    rates = None

    def __init__(self, size: int, adapters: str) -> None:
        self.size, self.adapters = size, adapters


@pytest.mark.parametrize(
    ("size", "adapters", "found"),
    [(700_000, "full", 5e-4), (135_000_000, "lora", 2e-4), (8_200_000_000, "lora", 2e-4),
     (70_000_000_000, "lora", 1e-4), (700_000, "lora", 2e-4), (TINY, "full", 9e-6)],
)  # fmt: skip
def test_the_rate_falls_with_the_size_and_is_what_was_set(size, adapters, found):
    backbone = Sized(size, adapters)
    assert rate(Settings(), "lr", backbone) == found
    for settings in (Settings(lr=0.1), Settings().model_copy(update={"lr": 0.1})):
        assert rate(settings, "lr", backbone) == 0.1
    assert rate(Settings(lr=5e-4), "lr", backbone) == 5e-4, "what is set is set, also to the default"
    assert rate(Settings(lr=0.1), "reward_lr", backbone) == usual(backbone)["reward_lr"]


def test_a_fork_is_trained_at_its_rate(tiny, monkeypatch):
    seen = []

    class Stopped(Exception):
        pass

    def stop(self, fork, lr, steps):
        seen.append(lr)
        raise Stopped

    monkeypatch.setattr(Updater, "__init__", stop)
    for adapters in ("full", "lora"):
        backbone = tiny(adapters)
        agent = improving.TextAgent(backbone, backbone.fork("one"), 4)
        for settings in (Settings(), Settings(lr=0.25)):
            with pytest.raises(Stopped):
                improving.optimize(agent, None, None, settings, "k", lambda *_: None, None)
    assert seen == [5e-4, 0.25, 2e-4, 0.25]


def test_other_settings_of_a_command_line_do_not_set_it():
    (after,) = (configure(toy.task(), ["toy.steps=3"]),)
    assert "steps" in after.settings.model_fields_set and "lr" not in after.settings.model_fields_set
    assert "lr" in configure(toy.task(), ["toy.lr=1e-3"]).settings.model_fields_set


def test_a_run_goes_on_with_the_rates_it_began_with(tiny):
    """And one of before there was a choice with the settings' own."""
    decided = TextMaker(tiny("lora")).decide(None)
    assert decided["rates"] == {"lr": 2e-4, "reward_lr": 2e-4}
    later = tiny("lora")
    TextMaker(later).decide(decided | {"rates": {"lr": 0.5, "reward_lr": 0.25}})
    assert (rate(Settings(), "lr", later), rate(Settings(), "reward_lr", later)) == (0.5, 0.25)
    older = tiny("lora")
    TextMaker(older).decide({name: value for name, value in decided.items() if name != "rates"})
    assert (rate(Settings(), "lr", older), rate(Settings(), "reward_lr", older)) == (5e-4, 1e-3)


def test_a_reward_model_that_is_opened_again_is_fitted_at_its_run_s_rate(tmp_path):
    """config.json has the defaults of what nobody had set."""
    few = {"rounds": 1, "cases": 2, "comparisons": 4, "steps": 0, "accept": 0, "holdout": 0.0}
    for name, more, found in (("own", {}, 0.125), ("set", {"reward_lr": 0.5}, 0.5)):
        folder = tmp_path / name
        train(toy.task(settings=toy.SMALL.model_copy(update=few | more)), BoundedUser(attention=4), "embedded", folder)
        path = folder / "config.json"
        config = json.loads(path.read_text())
        assert config["about"]["decided"]["rates"] == {"lr": 5e-4, "reward_lr": 1e-3}
        config["about"]["decided"]["rates"]["reward_lr"] = 0.125
        path.write_text(json.dumps(config))
        reward = reward_of(folder, "toy")
        assert rate(reward.settings, "reward_lr", reward.backbone) == found
