"""A report's figures as SVG and PDF: the same numbers give the same bytes, with the same matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rrm.trust.reported import NodeTold, RunTold
from rrm.view.reading import Series
from rrm.view.web.plots import thin

PANELS = (
    ("steps", "reward", "learned reward", "step of improvement"),
    ("steps", "kl", "KL to the start, nats", "step of improvement"),
    ("rounds", "holdout_accuracy", "held-out predicted", "round"),
    ("rounds", "truth", "true score", "round"),
)
"""Where in a node's curves, its name there, and what stands at its axes."""
SHARES = ("holdout_accuracy",)
"""Which are between 0 and 1."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in both formats."""

    svg: bytes
    pdf: bytes


def draw(runs: Sequence[RunTold], node: str) -> DrawnFigure | None:
    """A node's curves, one line a run; None where nothing was recorded."""
    curves = [(run, _curves(run.nodes[node])) for run in runs]
    kept = [panel for panel in PANELS if any(panel[1] in each for _, each in curves)]
    if not kept:
        return None
    import matplotlib  # late: it takes a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "rrm", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure, axes = pyplot.subplots(
            1, len(kept), figsize=(3.4 * len(kept), 2.8), layout="constrained", squeeze=False
        )
        for (_, name, label, below), panel in zip(kept, axes[0], strict=True):
            for run, each in curves:
                if name in each:
                    xs, ys = zip(*thin(each[name]), strict=True)
                    panel.plot(xs, ys, linewidth=1.2, marker="o" if len(xs) <= 16 else None, markersize=3,
                               label=f"{run.title}, seed {run.seed}".replace("$", r"\$"))  # fmt: skip
            panel.set_xlabel(below)
            panel.set_ylabel(label)
            panel.xaxis.get_major_locator().set_params(integer=True)
            if name in SHARES:
                panel.set_ylim(-0.02, 1.02)
            panel.spines[["top", "right"]].set_visible(False)
        if len(runs) > 1:
            axes[0][0].legend(fontsize=7, frameon=False)
        svg, pdf = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None})
        pyplot.close(figure)
    return DrawnFigure(svg.getvalue(), pdf.getvalue())


def _curves(node: NodeTold) -> Mapping[str, Series]:
    found = {}
    for where, name, *_ in PANELS:
        series = (node.curves.steps if where == "steps" else node.curves.rounds).get(name, [])
        if series:
            found[name] = series
    return found
