"""Learning rates by what is trained: the ones of a model of a million parameters are wrong for eight billion.

Tiny models are fully fine-tuned, at rates that were chosen on the embedded ones (0.7 million parameters). Adapters of
larger models: 2e-4, and 1e-4 beyond 13 billion parameters (Dettmers et al. 2023, arXiv 2305.14314, table 9; of
supervised fine-tuning, where `max_kl` is what bounds a policy here). A larger model that is fully fine-tuned: 9e-6
(Ouyang et al. 2022, arXiv 2203.02155, appendix C.2, of their reward models of 6 billion).
"""

from __future__ import annotations

from typing import Literal

from rrm.models.backbone import TINY, Backbone

LARGE = 15_000_000_000
"""Parameters: models that are called 13 B have fewer."""


def rate(asked: float | Literal["auto"], backbone: Backbone, tiny: float) -> float:
    """The rate that was asked for, or else the model's. tiny: that of a model below `TINY` parameters that is fully
    fine-tuned."""
    if asked != "auto":
        return asked
    if backbone.adapters == "full":
        return tiny if backbone.size < TINY else 9e-6
    return 2e-4 if backbone.size < LARGE else 1e-4
