"""Whether simulated users judged in a world that was made for them, as far as a run tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rrm.loop.provenance import PACKAGES

IN_A_WORLD = "That people would judge so: simulated users judged, in a world that was made for it."
"""In a certificate's `not_shown`; older ones say it of any world."""
ANYWHERE = "That people would judge so: simulated users judged."
"""The same where nothing says that the world was made for it."""


def of_rrm(config: Mapping[str, Any]) -> bool:
    """Whether a run's tree is one of rrm's own, in whose worlds simulated users judge (`rrm.worlds`): nothing of it is
    written in any other file. Of runs that do not say by what code they were trained it cannot be told."""
    code = config.get("about", {}).get("code", {})
    return bool(code) and {*code} <= {*PACKAGES}
