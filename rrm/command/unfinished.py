"""What a node of a run that trains on, or was stopped, has not got yet: said before anything is loaded for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrm.command.typed import typed_for
from rrm.core.errors import RunError
from rrm.view.reading import Reader


def expect_trained(run: Path, node: str, parts: Sequence[str]) -> None:
    """Raise `RunError` if a node has no checkpoint of one of these parts ("agent", "reward"), saying how to go on."""
    with Reader(run) as opened:
        if node not in opened.nodes:
            return  # whoever opens it says what there is
        saved = {part for _, part, *_ in opened.checkpoints.get(node, ())}
        lacking = next((part for part in parts if part not in saved), None)
        if lacking is None:
            return
        finished = opened.nodes[node].finished
        state = opened.state
    what = {"reward": "reward model"}.get(lacking, lacking)
    if finished is not None:
        raise RunError(
            f"{run}: no {what} at {node!r}: it was trained in another run (version {finished}), or is a tool"
        )
    again = typed_for(run)
    mend = f"\nnext: {again}" if again and state == "stopped" else ""
    where = {"training": "it is being trained", "asking": "people are asked"}.get(state, "its training was stopped")
    raise RunError(f"{run}: no {what} at {node!r} so far: {where}, and no round of it is done{mend}")
