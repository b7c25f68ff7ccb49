"""Learning rates by what is trained: the ones of a model of a million parameters are wrong for eight billion.

A rate that was set is taken as it is. Otherwise: tiny models, which are fully fine-tuned, at the settings' own
defaults, chosen on the embedded ones (0.7 million parameters). Adapters: 2e-4, and 1e-4 beyond 13 billion parameters
(Dettmers et al. 2023, arXiv 2305.14314, table 9; of supervised fine-tuning: here `max_kl` bounds a policy). Larger
models that are fully fine-tuned: 9e-6 (Ouyang et al. 2022, arXiv 2203.02155, appendix C.2, of their reward models of
6 billion).

What a run found is in its config.json (`about.decided.rates`), so that a later release does not change it half way.
"""

from __future__ import annotations

from typing import Literal

from rrm.core.settings import Settings
from rrm.models.backbone import TINY, Backbone

LARGE = 15_000_000_000
"""Parameters: models that are called 13 B have fewer."""
Name = Literal["lr", "reward_lr"]


def usual(backbone: Backbone) -> dict[str, float]:
    """The rates of a model unless they are set: by the setting's name."""
    if backbone.adapters == "full" and backbone.size < TINY:
        return {name: Settings.model_fields[name].default for name in ("lr", "reward_lr")}
    rate = 9e-6 if backbone.adapters == "full" else 2e-4 if backbone.size < LARGE else 1e-4
    return {"lr": rate, "reward_lr": rate}


def rate(settings: Settings, name: Name, backbone: Backbone) -> float:
    """A setting that was set, or else what the run decided, or the model's usual one."""
    if name in settings.model_fields_set:
        return float(getattr(settings, name))
    return (usual(backbone) if backbone.rates is None else backbone.rates)[name]
