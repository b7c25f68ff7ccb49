"""The chip world's model in the package: it plays every role of the tree, and is the file its card speaks of."""

import hashlib
import json

from rrm.core.validation import plant
from rrm.measure.roles import doubts, look
from rrm.models.backbone import Backbone
from rrm.models.fetching import PACKAGED
from rrm_tasks.chip import chip


def test_it_plays_every_role():
    task = plant(chip())
    found = [*look(task, Backbone.load("embedded-chip"), cases=8, outcomes=4)]
    assert [one.task.path for one in found] == [
        "chip", "chip/benchmark", "chip/benchmark/segments", "chip/heat", "chip/lifetime", "chip/security",
    ]  # fmt: skip
    for one in found:
        assert one.readable > 0.8 and one.finished > 0.9, one.task.path
        assert one.task.findings is None or min(one.verdicts) > 0, one.task.path
    assert not [*doubts(found, task)]


def test_it_is_the_model_of_its_record():
    folder = PACKAGED["embedded-chip"]
    record = json.loads((folder / "pretraining.json").read_text())
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == record["sha256"]
    card = (folder / "README.md").read_text()
    for role, skill in record["model_skill"].items():
        assert f"| {role} | {record['corpus_skill'][role]:.3f} | {skill:.3f} |" in card
