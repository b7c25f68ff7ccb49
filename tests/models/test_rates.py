"""Learning rates by the size of what is trained."""

import pytest

from rrm import Settings
from rrm.core.settings import SettingError
from rrm.learning.improving import Updater
from rrm.learning.rates import rate
from rrm.models.backbone import TINY


class Sized:
    def __init__(self, size: int, adapters: str) -> None:
        self.size, self.adapters = size, adapters


@pytest.mark.parametrize(
    ("size", "adapters", "found"),
    [(700_000, "full", 5e-4), (135_000_000, "lora", 2e-4), (8_200_000_000, "lora", 2e-4),
     (70_000_000_000, "lora", 1e-4), (700_000, "lora", 2e-4), (TINY, "full", 9e-6)],
)  # fmt: skip
def test_the_rate_falls_with_the_size_and_is_what_was_asked_for(size, adapters, found):
    backbone = Sized(size, adapters)
    assert rate("auto", backbone, 5e-4) == found
    assert rate(0.1, backbone, 5e-4) == 0.1


def test_a_fork_is_trained_at_its_rate(tiny, monkeypatch):
    """In improving, by the backbone whose fork it is."""
    from rrm.learning import improving

    seen = []
    monkeypatch.setattr(Updater, "__init__", lambda self, fork, lr, steps: seen.append(lr) or _stop())
    for adapters in ("full", "lora"):
        backbone = tiny(adapters)
        agent = improving.TextAgent(backbone, backbone.fork("one"), 4)
        for settings in (Settings(), Settings(lr=0.25)):
            with pytest.raises(_Stopped):
                improving.optimize(agent, None, None, settings, "k", lambda *_: None, None)
    assert seen == [5e-4, 0.25, 2e-4, 0.25]


class _Stopped(Exception):
    pass


def _stop():
    raise _Stopped


@pytest.mark.parametrize("given", [0, -1.0, "fast", None])
def test_what_is_no_rate_is_one_error_that_says_both(given):
    with pytest.raises(SettingError) as raised:
        Settings(lr=given)
    text = str(raised.value)
    assert text.count("\n") == 0 and text.startswith("Settings") and f"lr={given!r}: " in text and "'auto'" in text
    assert ("greater than 0" in text) == (given in (0, -1.0))
