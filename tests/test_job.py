"""A node's training as a pure function of data gives what a run in a folder gives, whoever does it, however often."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rrm
from rrm.core.errors import RunError
from rrm.core.task import Pool
from rrm.core.validation import plant
from rrm.learning.text_maker import TextMaker
from rrm.loop.job import Checkpoint, Job, perform, restore
from rrm.loop.recursion import frame_all
from rrm.loop.run import Run
from rrm.models.backbone import Backbone
from rrm.store.journal import Journal, MemoryJournal, Records
from rrm.users.human import HumanUser
from tests import toy
from tests.bandits import Impatient, Interrupted, example
from tests.models.conftest import network, tokenizer
from tests.test_resume import contents
from tests.test_seam import Moods

BANDIT = example("custom_agent")
TWO = toy.SMALL.model_copy(update={"rounds": 2, "accept": 2, "drafts": 2})


def maker() -> TextMaker:
    return TextMaker(Backbone("tiny", network(), tokenizer(), "full"))


def user(**given: Any) -> Impatient:
    return Impatient(attention=4, **given)


def tree() -> rrm.Task:
    sub = toy.sub(settings=TWO, assistants=[toy.sub("deep", settings=TWO)])
    return plant(toy.task(settings=TWO, assistants=[sub]))


def kept(records: Records, folder: Path) -> dict[str, Any]:
    """What the records are in a run's folder, but for times."""
    folder.mkdir()
    journal = Journal(folder)
    journal.pour(records)
    journal.pour(records)  # a retry adds nothing
    journal.close()
    return contents(folder)


def test_a_whole_tree_as_a_job(tmp_path: Path) -> None:
    rrm.train(tree(), user(), maker().backbone, tmp_path / "run")
    assert toy.CASES is tree().cases
    records = perform(Job(tree(), toy.CASES, 0), maker(), user())
    assert kept(records, tmp_path / "poured") == contents(tmp_path / "run")
    files = [*(tmp_path / "run").rglob("*.safetensors")]
    weights = {path.relative_to(tmp_path / "run").as_posix(): path.read_bytes() for path in files}
    assert records.files == weights and weights


def test_a_subtask_alone_and_then_its_parent_from_checkpoints(tmp_path: Path) -> None:
    """As a driver would spread a tree: the child where it is framed, the parent with the child's checkpoint."""
    whole = tree()
    rrm.train(whole, user(), maker().backbone, tmp_path / "run")
    expected = contents(tmp_path / "run")
    (sub,) = (task for task in whole.assistants if isinstance(task, rrm.Task))

    run = Run(tmp_path / "frame", maker(), 0)
    groups = run.open(whole, user()).sample_to_frame(toy.CASES)
    cases = Pool(tuple(frame_all(sub, groups)))
    below = perform(Job(sub, cases, 0), maker(), user())
    journal = MemoryJournal()
    journal.pour(below)
    finished = Run("unused", maker(), 0, journal=journal)
    child = finished.open(sub, user())
    deep = finished.open(sub.assistants[0], user()).finish(())  # type: ignore[arg-type]
    saved = Checkpoint.of(child.finish((deep,)), sub)

    above = perform(Job(whole, toy.CASES, 0, (saved,)), maker(), user())
    found = kept(above, tmp_path / "poured")
    of_root = {name: [row for row in rows if row[0] == "toy"] for name, rows in expected.items()}
    assert of_root["weights"] and of_root["judgements"] and of_root["metrics"]
    for name in ("weights", "judgements", "metrics", "scores"):
        assert [row for row in found[name] if row[0] == "toy"] == of_root[name], name


@pytest.mark.parametrize("patience", [1, 9, 20])
def test_a_job_that_was_interrupted_goes_on_from_its_records(tmp_path: Path, patience: int) -> None:
    task, cases = plant(BANDIT.pull), BANDIT.pull.cases
    whole = perform(Job(task, cases, 0), BANDIT.Bandits(), user())
    folder = tmp_path / "cut"
    first = user(patience=patience)
    with suppress(Interrupted):
        rrm.train(BANDIT.pull, first, BANDIT.Bandits(), folder)
    known = Journal(folder).records()
    second = user()
    records = perform(Job(task, cases, 0, known=known), BANDIT.Bandits(), second)
    assert first.asked.total() == patience
    assert kept(records, tmp_path / "a") == kept(whole, tmp_path / "b")
    assert first.asked.total() + second.asked.total() == len(contents(tmp_path / "a")["judgements"])


def test_an_assistant_restored_from_its_checkpoint_answers_the_same(tmp_path: Path) -> None:
    whole = tree()
    root = rrm.train(whole, user(), maker().backbone, tmp_path / "run")
    saved = Checkpoint.of(root, whole)
    again = restore(whole, saved, maker(), 0)
    assert again.version == root.version and [h.version for h in again.helpers] == [h.version for h in root.helpers]
    groups = root.agent.sample(toy.CASES.draw(2, "look"), 2, "look")
    assert again.agent.sample(toy.CASES.draw(2, "look"), 2, "look") == groups
    assert again.helpers[0].examine(groups) == root.helpers[0].examine(groups)
    with pytest.raises(RunError, match="it is another assistant"):
        restore(whole, replace(saved, version="another"), maker(), 0)
    with pytest.raises(RunError, match="not of 'toy'"):
        restore(whole, replace(saved, path="elsewhere"), maker(), 0)


def test_weights_that_are_not_what_the_records_name_are_refused() -> None:
    records = perform(Job(plant(BANDIT.pull), BANDIT.pull.cases, 0), BANDIT.Bandits(), user())
    swapped = dict.fromkeys(records.files, b"something else")
    with pytest.raises(RunError, match="the records lack these weights, or have other weights"):
        perform(
            Job(plant(BANDIT.pull), BANDIT.pull.cases, 0, known=replace(records, files=swapped)),
            BANDIT.Bandits(), user(),
        )  # fmt: skip


def bandit_records(kind: Any = BANDIT.Bandits) -> Records:
    return perform(Job(plant(BANDIT.pull), BANDIT.pull.cases, 0), kind(), user())


def test_another_attempt_with_other_bits_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """A retry of what does not repeat itself must not be mixed with what is kept."""
    journal = Journal(tmp_path)
    journal.pour(bandit_records(Moods))
    before, weights = journal.counts(), {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}
    with pytest.raises(RunError, match="of another attempt"):
        journal.pour(bandit_records(Moods))
    assert journal.counts() == before and all(p.read_bytes() == body for p, body in weights.items())
    assert journal.weights("pull", 1, "agent") is not None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: replace(r, files={**r.files, "../escaped.txt": b"x"}), "files that they do not name"),
        (lambda r: replace(r, files={}), "lack these weights"),
        (lambda r: replace(r, tables={**r.tables, "nonsense": ()}), "tables that a journal has not: nonsense"),
        (
            lambda r: replace(r, tables={**r.tables, "checkpoints": tuple(
                (*row[:3], "../escaped.safetensors", *row[4:]) for row in r.tables["checkpoints"])}),
            "should be at 'nodes/",
        ),
    ],
)  # fmt: skip
def test_records_that_do_not_belong_together_are_refused(tmp_path: Path, change: Any, why: str) -> None:
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run")
    with pytest.raises(RunError, match=why):
        journal.pour(change(bandit_records()))
    assert set(journal.counts().values()) == {0} and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_a_maker_decided_goes_with_the_job(tmp_path: Path) -> None:
    class Deciding(BANDIT.Bandits):  # type: ignore[misc, name-defined]
        decided: Any = None

        def decide(self, before: Any) -> Any:
            self.decided = {"width": 7} if before is None else dict(before)
            return self.decided

    maker = Deciding()
    perform(Job(plant(BANDIT.pull), BANDIT.pull.cases, 0, decided={"width": 3}), maker, user())
    assert maker.decided == {"width": 3}


def test_jobs_that_cannot_be_done_as_asked() -> None:
    task = plant(BANDIT.pull)
    stray = Checkpoint("pull/nobody", "v", {}, None)
    with pytest.raises(RunError, match="checkpoints of pull/nobody, which are no subtasks of 'pull'"):
        perform(Job(task, BANDIT.pull.cases, 0, (stray,)), BANDIT.Bandits(), user())
    with pytest.raises(RunError, match="lacks its assistants toy/sub"):
        restore(tree(), Checkpoint("toy", "v", {}, None), maker(), 0)
    with pytest.raises(RunError, match="needs a run's folder"):
        perform(Job(task, BANDIT.pull.cases, 0), BANDIT.Bandits(), HumanUser())
