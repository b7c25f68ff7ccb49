"""The truth beside the reward: logged at the start and after every round, changing nothing."""

from __future__ import annotations

from pathlib import Path

from rrm import BoundedUser, train
from rrm.measure.watch import Truth
from rrm.models.backbone import Backbone
from rrm.store.store import Store
from rrm.view.reading import Reader
from tests import toy
from tests.models.conftest import network, tokenizer


def test_truth_is_logged_at_the_start_and_after_every_round_and_changes_nothing(tmp_path: Path) -> None:
    settings = toy.SMALL.model_copy(update={"rounds": 2, "lr": 1e-2})
    task = toy.task(settings=settings, assistants=[toy.sub(settings=settings)])
    for name, watch in (("plain", []), ("watched", [Truth(n=6)])):
        train(task, BoundedUser(), Backbone("tiny", network(), tokenizer(), "full"), tmp_path / name, watch=watch)
    stores = {name: Store(tmp_path / name / "run.db") for name in ("plain", "watched")}
    for node in ("toy", "toy/sub"):
        of = {name: {key: sha for key, (_, sha) in store.checkpoints(node).items()} for name, store in stores.items()}
        assert of["plain"] == of["watched"]
        logged = [(row[1], row[3]) for row in stores["watched"].metrics(node, "truth") if row[4] == "truth"]
        assert logged == [(0, 0), (0, 1), (1, 1)]
    with Reader(tmp_path / "watched") as run:
        curve = run.curves(run.nodes["toy"]).rounds["truth"]
        assert [at for at, _ in curve] == [0, 1, 2] and all(0 <= value <= 1 for _, value in curve)
        assert run.progress(run.nodes["toy"]).truth is not None
