"""A run folder made by rrm 0.1.0, interrupted in mid-round, opens, resumes and can be inspected; a newer is refused.

`fixtures/run_of_0_1_0`: the root had 5 of its second round's 8 judgements; its assistants were finished.
`labels_of_0_1_0`: a person had answered 3 of 5 questions. Both by a random model of 20 thousand parameters
(tests/models/conftest.py).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rrm import Case, Outcome, RRMError, Task, train
from rrm.core.errors import RunError, StoreError
from rrm.labels.queue import Labels
from rrm.loop import run as run_module
from rrm.models.backbone import Backbone
from rrm.store.store import Store
from rrm.store.upgrades import LABELS, RUN
from rrm.users.human import HumanUser
from rrm.view.inspect import show_node, show_tree
from rrm.view.reading import Reader, ReadError
from tests import toy
from tests.bandits import Impatient, example
from tests.models.conftest import network, tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = toy.SMALL.model_copy(
    update={"rounds": 2, "cases": 4, "outcomes": 3, "comparisons": 8, "accept": 4, "holdout": 0.3}
)


def backbone() -> Backbone:
    return Backbone("tiny", network(), tokenizer(), "full")


def locate(case: Case, outcome: Outcome) -> dict[str, tuple[int, int]]:
    return {"even": (0, len(outcome.text))}


def tree() -> Task:
    one = SMALL.model_copy(update={"rounds": 1})
    deep = toy.sub("deep", settings=one)
    return toy.task(settings=SMALL, locate=locate, assistants=[toy.sub(settings=one, assistants=[deep])])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "run_of_0_1_0", tmp_path / "run"))


def version(path: Path) -> int:
    return int(sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0])


def asked(path: Path, task: str) -> list[str]:
    return [row[0] for row in sqlite3.connect(path).execute(
        "SELECT pair FROM comparisons WHERE task = ? ORDER BY seq", (task,))]  # fmt: skip


def test_it_resumes_and_asks_nothing_again(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it kept can be gone on from, were the bits of its training those of today."""
    monkeypatch.setattr(run_module, "BITS", 1)
    before = asked(old / "run.db", "toy")
    weights = {path: path.read_bytes() for path in old.rglob("*.safetensors")}
    assert len(before) == 14 and version(old / "run.db") == 0
    user = Impatient(attention=4)
    root = train(tree(), user, backbone(), old, 3)
    assert not set(before) & set(user.asked), "a judgement of before was asked for again"
    assert asked(old / "run.db", "toy")[:14] == before and len(asked(old / "run.db", "toy")) > 14
    assert all(path.read_bytes() == body for path, body in weights.items())
    assert (old / "nodes/toy/1/agent.safetensors").exists() and root.task.path == "toy"
    assert version(old / "run.db") == len(RUN)


def test_it_can_be_inspected_as_it_is(old: Path) -> None:
    """Looking changes nothing, the schema included."""
    console = Console(file=StringIO(), width=120)
    with Reader(old) as reader, console.capture() as capture:
        show_tree(reader, console)
        show_node(reader, "toy", console, "all", "", 0, 3)
    assert "deep" in capture.get() and "Comparison" in capture.get().title()
    assert version(old / "run.db") == 0


def test_people_s_labels_of_before_are_still_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "BITS", 1)
    monkeypatch.setattr(Backbone, "decode", without_special)  # this random model writes many, which 0.1.0 did not show
    old = Path(shutil.copytree(FIXTURES / "labels_of_0_1_0", tmp_path / "run"))
    assert version(old / "labels.db") == 0
    labels = Labels(old)
    assert version(old / "labels.db") == len(LABELS)
    assert [label.note for label in labels.labels()] == ["note 0", "note 1", "note 2"]
    for n in range(2):
        (question,) = labels.claim("ada", 1)
        labels.answer(f"key-of-label-{n + 3}", question.id, "ada", "first")
    settings = toy.SMALL.model_copy(update={"rounds": 1, "cases": 3, "outcomes": 3, "comparisons": 5, "accept": 0})
    user = HumanUser(unassisted=0.0, grace=0.0, poll=0.05, tell=lambda line: None)
    train(toy.task(settings=settings), user, backbone(), old, 3)
    assert len(asked(old / "run.db", "toy")) == 5 and len(labels.labels()) == 5


def without_special(backbone: Backbone, ids: Sequence[int], prompt: str | None = None) -> str:
    return str(backbone.tokenizer.decode(list(ids), skip_special_tokens=True))


@pytest.mark.parametrize("name", ["run.db", "labels.db"])
def test_what_a_newer_rrm_wrote_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (Store(path) if name == "run.db" else Labels(tmp_path)).close()
    sqlite3.connect(path).execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"{name} was written by a newer rrm: .* version 99, and .* up to \d"):
        Store(path) if name == "run.db" else Labels(tmp_path)
    with pytest.raises(ReadError, match="newer rrm"):
        if name == "run.db":
            Reader(tmp_path)
        else:
            Store(tmp_path / "run.db").close()
            with Reader(tmp_path) as reader:
                _ = reader.asked
    assert path.read_bytes() == before


def test_an_added_column_comes_by_the_upgrade_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.db"
    Store(path).close()
    store = "rrm.store.store.RUN"
    more = (*RUN, "ALTER TABLE scores ADD COLUMN x REAL;")
    monkeypatch.setattr(store, (*more, "ALTER TABLE nowhere ADD COLUMN y REAL;"))
    with pytest.raises(StoreError, match="no such table: nowhere"):
        Store(path)
    assert version(path) == len(RUN), "half an upgrade was kept"
    monkeypatch.setattr(store, more)
    upgraded = Store(path)
    assert version(path) == len(more) and "x" in [row[1] for row in upgraded._db.execute("PRAGMA table_info(scores)")]
    Store(path)  # once


def test_a_run_with_other_bits_is_inspected_and_not_resumed(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "BITS", run_module.BITS + 1)
    for seed in (3, 4):  # the version is said first, whatever else differs
        with pytest.raises(RunError, match=r"begun by rrm 0\.1\.0, whose training gives other bits \(version 1\)"):
            train(tree(), Impatient(attention=4), backbone(), old, seed)
    with Reader(old) as reader:
        assert "toy" in reader.nodes


def test_a_new_run_says_what_made_it(tmp_path: Path) -> None:
    train(toy.task(), Impatient(), backbone(), tmp_path / "run")
    about = json.loads((tmp_path / "run/config.json").read_text())["about"]
    assert about["bits"] == run_module.BITS and about["rrm"] and about["packages"]["torch"]


def test_errors_are_ours() -> None:
    assert issubclass(StoreError, RRMError) and issubclass(RunError, RRMError)


def test_what_a_maker_decides_cannot_pass_for_what_made_the_run(tmp_path: Path) -> None:
    bandit = example("custom_agent")

    class Quantized(bandit.Bandits):  # type: ignore[misc, name-defined]
        def decide(self, before: object) -> object:
            assert before in (None, {"bits": 8})
            return {"bits": 8}

    for _ in range(2):
        train(bandit.pull, Impatient(attention=4), Quantized(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["about"]["bits"] == run_module.BITS
