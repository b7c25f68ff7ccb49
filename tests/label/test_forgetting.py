"""A person's name taken out of a run: no byte is left, no other label changes, and what rested on it is said."""

from __future__ import annotations

import sqlite3
import unicodedata
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.judgements import Comparison, Judgement
from rrm.exchange.exporting import export
from rrm.labels.forgetting import forget, named_in, people
from rrm.labels.questions import LabelError, combine
from rrm.labels.queue import Labels
from rrm.store.store import Store
from tests.label.material import pair
from tests.view.synthetic import configure

NAME = "Zoë Quixbury"
N = 12


def key() -> str:
    return str(uuid.uuid4())


def judged(folder: Path, overlap: int = 2, note: str = "") -> list[str]:
    """A round that Zoë judged, alone or with Ben, as training took and kept it; one question is open still."""
    labels, store = Labels(folder), Store(folder / "run.db")
    pairs = [pair(i) for i in range(N)]
    ids = labels.ask("t", 0, "Which?", pairs, overlap, 0.0)
    for id in ids:
        labels.answer(key(), id, NAME, "first", note=note, marks={"a/0": "yes"})
        if overlap == 2:
            labels.answer(key(), id, "Ben", "second", note=f"I asked {NAME}" if note else "")
    taken = labels.take(ids)
    assert taken is not None
    for position, (id, one) in enumerate(zip(ids, pairs, strict=True)):
        store.add(Comparison(one, taken[id], 0, taken[id].by, 1.0), position)
    store.checkpoint("t", 0, "reward", "x", "y")
    store.checkpoint("t", 1, "agent", "x", "y")
    store.add(Comparison(pair(90), Judgement(1.0), -1, NAME, 1.0), 0)
    store.add(Comparison(pair(91), Judgement(0.9, note=f"3 judgements: 2 for A; {NAME}; Ben"), -1, "3 people", 1.0), 1)
    more = labels.ask("t", 1, "Which?", [pair(50), pair(51)], 1, 0.0)
    labels.claim(NAME, 1)
    labels.answer(key(), more[1], NAME, "tie")
    (folder / "config.json").write_text('{"tree": {"t": {}}}')
    labels.close()
    store.close()
    return ids


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


@pytest.mark.parametrize("labels", ["keep", "withdraw"])
@pytest.mark.parametrize("overlap", [1, 2])
@pytest.mark.parametrize("note", ["", f"as {NAME} I say so"])
def test_no_byte_of_the_name_is_left(tmp_path: Path, labels: str, overlap: int, note: str) -> None:
    judged(tmp_path, overlap, note)
    assert NAME.encode() in bytes_of(tmp_path)
    done = CliRunner().invoke(app, ["people", str(tmp_path), "--forget", NAME, "--labels", labels])
    assert done.exit_code == 0, done.output
    export(tmp_path, tmp_path / "out.jsonl", "jsonl", ties=True)
    assert NAME.encode() not in bytes_of(tmp_path) and NAME not in done.output
    assert "Zo\\u00eb" not in (tmp_path / "out.jsonl").read_text()
    assert rows(tmp_path / "labels.db", "SELECT COUNT(*) FROM claims") == [(0,)]
    assert set(people(tmp_path)) == {"somebody 1", *(["Ben"] if overlap == 2 else [])}


def test_kept_labels_stay_as_they_were(tmp_path: Path) -> None:
    judged(tmp_path)
    query = "SELECT task, round, pair, preference, checks, seconds, supersedes FROM comparisons ORDER BY seq"
    before = rows(tmp_path / "run.db", query)
    found = forget(tmp_path, NAME, "keep")
    assert rows(tmp_path / "run.db", query) == before and not found.withdrawn
    assert found.judgements == {("t", 0): N, ("t", -1): 1} and found.mixed == 1
    current = Labels(tmp_path).labels()
    assert {label.labeler for label in current} == {"somebody 1", "Ben"} and len(current) == 2 * N + 1


@pytest.mark.parametrize("overlap", [1, 2])
def test_withdrawn_labels_count_no_more_and_others_do(tmp_path: Path, overlap: int) -> None:
    ids = judged(tmp_path, overlap)
    store, queue = Store(tmp_path / "run.db"), Labels(tmp_path)
    order = [c.pair.id for c in store.comparisons()]
    bens = {label.question: label for label in queue.labels() if label.labeler == "Ben"}
    expected = [combine(pair(i), [bens[id]] if overlap == 2 else []).preference for i, id in enumerate(ids)]
    found = forget(tmp_path, NAME, "withdraw")
    now = store.comparisons()
    assert [c.pair.id for c in now] == order, "each stands where it stood"
    assert [c.preference for c in now if c.round == 0] == expected
    assert found.abstained == (1 if overlap == 2 else N + 1)
    assert [c.preference for c in now if c.round == -1] == [None, 0.9]
    assert {label.labeler for label in queue.labels()} == ({"Ben"} if overlap == 2 else set())
    taken = queue.taken(ids)  # what an interrupted run would read
    assert taken is not None and [taken[id].preference for id in ids] == expected
    assert [q.pair for q in queue.claim("Eve", 9)] == [pair(50), pair(51)], "what is open is asked of others"
    assert queue.withdrawn_late() == N


def test_what_rested_on_it_is_said(tmp_path: Path) -> None:
    judged(tmp_path)
    said = "\n".join(forget(tmp_path, NAME, "withdraw").lines(tmp_path))
    for part in (
        "13 judgements were theirs, and are taken back (t imported: 1, t round 1: 12)",
        "12 of them are now what others",
        "t: the reward's weights of rounds 1", "t: the agent's weights of rounds 2", "exported or certified",
        "rrm import", "1 imported judgements are means",
    ):  # fmt: skip
        assert part in said, said


def test_what_is_append_only_is_so_again(tmp_path: Path) -> None:
    judged(tmp_path)
    forget(tmp_path, NAME, "withdraw")
    for name, tables in (("run.db", ("comparisons",)), ("labels.db", ("labels", "closed"))):
        db = sqlite3.connect(tmp_path / name)
        for table in tables:
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET at = 0"):
                with pytest.raises(sqlite3.Error, match=r"append-only|no such function: link_"):
                    db.execute(statement)


def test_after_an_interruption_the_same_again_does_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rrm.labels import forgetting

    judged(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(forgetting, "_in_labels", killed)
        forget(tmp_path, NAME, "withdraw")
    forget(tmp_path, NAME, "withdraw")
    assert NAME.encode() not in bytes_of(tmp_path)
    assert {label.labeler for label in Labels(tmp_path).labels()} == {"Ben"}


def test_names_within_others_words_and_pseudonyms(tmp_path: Path) -> None:
    """Ann is no part of Annette; whoever was made somebody can be taken back later; two are two."""
    labels = Labels(tmp_path)
    store = Store(tmp_path / "run.db")
    for i, user in enumerate(("Ann", "human(Ann, Annette)", "human(Ann)", "Annette", "bounded(attention=Ann)")):
        store.add(Comparison(pair(i), Judgement(1.0, note="Ann and Annette"), 0, user, 1.0), i)
    forget(tmp_path, "Ann", "keep")
    users = [c.user for c in store.comparisons()]
    kept = ["Annette", "bounded(attention=Ann)"]
    assert users == ["somebody 1", "human(somebody 1, Annette)", "human(somebody 1)", *kept]
    assert {c.judgement.note for c in store.comparisons()} == {"somebody 1 and Annette"}
    forget(tmp_path, "Annette", "keep")
    forget(tmp_path, "somebody 1", "withdraw")
    assert set(people(tmp_path)) == {"somebody 2", "somebody 3"}
    assert [c.preference for c in store.comparisons()] == [None, None, None, 1.0, 1.0]
    assert named_in("human(a, b)") == ["a", "b"] and named_in("human()") == [] == named_in("human")
    labels.close()


def test_the_program_that_a_run_names_as_its_user_is_no_person(tmp_path: Path) -> None:
    configure(tmp_path, "overlap")
    with closing(Store(tmp_path / "run.db")) as store:
        for i, user in enumerate(("overlap", "Ann")):
            store.add(Comparison(pair(i), Judgement(1.0), 0, user, 1.0), i)
    assert people(tmp_path) == {"Ann": 1}


def test_nobody_of_that_name_and_no_answer_are_errors(tmp_path: Path) -> None:
    judged(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(LabelError, match=rf"nobody of the name 'Al'.*Ben, {NAME}"):
        forget(tmp_path, "Al", "keep")
    done = CliRunner().invoke(app, ["people", str(tmp_path), "--forget", NAME])
    assert done.exit_code == 2 and "--labels keep" in done.output
    assert NAME.encode() in before and NAME.encode() in bytes_of(tmp_path)
    listed = CliRunner().invoke(app, ["people", str(tmp_path)])
    assert f"{NAME}: 13 judgements" in listed.output and "Ben: 12 judgements" in listed.output


def named(folder: Path, *names: str, note: str = "") -> None:
    labels, store = Labels(folder), Store(folder / "run.db")
    (id,) = labels.ask("t", 0, "Which?", [pair(0)], len(names), 0.0)
    for name in names:
        labels.answer(key(), id, name, "first", note=note)
    taken = labels.take([id])
    assert taken is not None
    store.add(Comparison(pair(0), taken[id], 0, taken[id].by, 1.0), 0)
    labels.close()
    store.close()


def notes(folder: Path) -> set[object]:
    return {one for (one,) in rows(folder / "labels.db", "SELECT note FROM labels")}


def test_a_name_within_anothers_stays(tmp_path: Path) -> None:
    named(tmp_path, "Ann", "Ann-Marie", "Joann", note="Ann and Ann-Marie, Joann, Annex")
    forget(tmp_path, "Ann", "keep")
    assert notes(tmp_path) == {"somebody 1 and Ann-Marie, Joann, Annex"}
    assert set(people(tmp_path)) == {"somebody 1", "Ann-Marie", "Joann"}
    (said,) = rows(tmp_path / "run.db", "SELECT note FROM comparisons")
    assert "\nAnn-Marie: " in str(said[0]) and "somebody 1-" not in str(said[0])
    forget(tmp_path, "Ann-Marie", "keep")
    assert notes(tmp_path) == {"somebody 1 and somebody 2, Joann, Annex"}


@pytest.mark.parametrize("given", ["NFC", "NFD"])
@pytest.mark.parametrize("kept", ["NFC", "NFD"])
def test_a_name_is_the_same_however_its_letters_are_composed(tmp_path: Path, given: str, kept: str) -> None:
    forms = {form: unicodedata.normalize(form, NAME) for form in ("NFC", "NFD")}  # type: ignore[arg-type]
    named(tmp_path, forms[kept], "Ben", note=f"{forms['NFC']}: {forms['NFD']}.")
    forget(tmp_path, forms[given], "keep")
    assert notes(tmp_path) == {"somebody 1: somebody 1."}
    assert not any(form.encode() in bytes_of(tmp_path) for form in forms.values())


def test_people_have_judged_a_pair_once_though_it_was_judged_anew(tmp_path: Path) -> None:
    named(tmp_path, "Ann", "Ben")
    forget(tmp_path, "Ann", "withdraw")
    assert people(tmp_path) == {"somebody 1": 1, "Ben": 1}
