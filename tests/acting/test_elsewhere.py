"""A job of agents that act, done in another process: its records carry the episodes that its outcomes name."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rrm
from rrm.acting import Acting, EpisodeError, episode_of
from rrm.acting.episodes import ARCHIVE, Archive, place_of
from rrm.core.errors import RunError
from rrm.loop.job import Job, perform
from rrm.store.journal import Journal, MemoryJournal, Records
from tests.acting.places import FACTORIES
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted
from tests.test_resume import contents


def tree() -> rrm.Task:
    task = task_in("Line")
    return replace(task, settings=task.settings.model_copy(update={"rounds": 2, "comparisons": 20, "accept": 2}))


def user(**given: Any) -> Impatient:
    return Impatient(attention=200, error=0.0, biases={}, **given)


def maker() -> Acting:
    return Acting(factories=FACTORIES, rollout=24)


def job(known: Records) -> Records:
    """In a process that knows nothing but this."""
    task = tree()
    assert task.cases is not None
    return perform(Job(task, task.cases, 0, known=known), maker(), user())


def elsewhere(known: Records) -> Records:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(job, known).result(timeout=300)


def named(folder: Path) -> set[str]:
    """The episodes that the judgements in a run's folder speak of."""
    journal = Journal(folder)
    try:
        found = [one for c in journal.comparisons("walk") for one in (c.a, c.b)]
        return {str((one.data or {})["episode"]) for one in found}
    finally:
        journal.close()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """A whole run's folder, and the records of one that was interrupted in its second round, and then lost."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rrm.train(tree(), user(), maker(), folder / "whole")
    with suppress(Interrupted):
        rrm.train(tree(), user(patience=30), maker(), folder / "cut")
    journal = Journal(folder / "cut")
    known = journal.records()
    journal.close()
    shutil.rmtree(folder / "cut")
    return folder / "whole", known


def test_a_job_that_another_process_goes_on_with_finds_its_episodes_and_brings_them(
    begun: tuple[Path, Records], tmp_path: Path
) -> None:
    whole, known = begun
    records = elsewhere(known)
    assert set(records.beside) > set(known.beside) != set()
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run")
    journal.pour(records)
    journal.pour(records)  # a retry adds nothing
    journal.close()
    assert contents(tmp_path / "run") == contents(whole)
    archive = Archive()
    archive.open(tmp_path / "run")
    assert all(archive.find(name).hidden["x"].size for name in named(tmp_path / "run"))
    assert {path.name for path in (tmp_path / "run").rglob("episodes/*/*")} == {
        path.name for path in whole.rglob("episodes/*/*")
    }


def test_without_them_it_says_what_is_missing(
    begun: tuple[Path, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ARCHIVE, "_recent", OrderedDict())
    monkeypatch.setattr(ARCHIVE, "_folders", [])
    with pytest.raises(EpisodeError, match="the arrays of the episode"):
        job(replace(begun[1], beside={}))


def test_a_job_leaves_the_makers_folder_and_the_archive_as_they_were(tmp_path: Path) -> None:
    mine, task = maker(), tree()
    mine.record(tmp_path)
    before = list(ARCHIVE._folders)
    assert task.cases is not None
    policy = mine.policy(task, 0)
    records = perform(Job(task, task.cases, 0), mine, user())
    assert mine.folder == tmp_path and list(ARCHIVE._folders) == before and records.beside
    assert not [*tmp_path.rglob("*.safetensors")], "a job's episodes are its records'"
    (group,) = policy.sample(task.cases.draw(1, "x"), 1, "x")
    assert place_of(tmp_path, episode_of(group.outcomes[0]).name).exists()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../escaped.safetensors", "and only episodes/"),
        ("episodes/ab/../../run.db", "and only episodes/"),
        (f"episodes/ab/{'a' * 64}.safetensors", "of another attempt"),
    ],
)
def test_what_may_not_lie_beside_records_is_refused(tmp_path: Path, path: str, says: str) -> None:
    there = tmp_path / f"episodes/ab/{'a' * 64}.safetensors"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"as it was")
    journal = Journal(tmp_path)
    with pytest.raises(RunError, match=says):
        journal.pour(Records(beside={path: b"another"}))
    assert there.read_bytes() == b"as it was" and set(journal.counts().values()) == {0}
    with pytest.raises(RunError, match="need a folder"):
        MemoryJournal().pour(Records(beside={path: b"another"}))
