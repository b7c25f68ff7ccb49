"""Gold questions and repeats come in between, look like the others, and are in nothing that trains."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from scipy.stats import binomtest

from rrm.command.run_commands import _guidelines, _mix
from rrm.core.errors import ConfigError, Notice
from rrm.core.judgements import Judgement
from rrm.core.records import Case, Outcome
from rrm.core.task import Picture, no_pictures, no_spans
from rrm.exchange.imports.gold import gold_of
from rrm.labels import forgetting
from rrm.labels.agreement import report
from rrm.labels.controls import Control, Gold, Mixing, wilson
from rrm.labels.questions import LabelError, Question
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.view.control_lines import judged_controls
from rrm.view.label_tty import Terminal
from rrm.view.web.label import as_shown, standing
from tests.label.material import pair
from tests.label.test_human import terminal

OFTEN = Mixing(gold=0.25, repeats=0.25, spacing=3)
GOLD = [Gold(replace(pair(100 + i, assisted=False), task="t"), float(i % 2)) for i in range(8)]


def queue(folder: Path, n: int = 30, mixing: Mixing | None = OFTEN) -> tuple[Labels, list[str]]:
    labels = Labels(folder)
    if mixing is not None:
        labels.mix(GOLD, mixing)
    return labels, labels.ask("t", 0, "Which?", [pair(i) for i in range(n)], 1, 0.3)


def judge(labels: Labels, question: Question, name: str, a_is_better: bool = True) -> str:
    key = str(uuid.uuid4())
    choice = "first" if question.swapped(name) != a_is_better else "second"
    assert labels.answer(key, question.id, name, choice, seconds=1.0).status == "kept"  # type: ignore[arg-type]
    return key


def work(labels: Labels, name: str = "ann") -> list[Question]:
    asked: list[Question] = []
    while found := labels.claim(name, 3):
        judge(labels, found[0], name, a_is_better=len(found[0].pair.case.prompt) % 2 == 0)
        asked.append(found[0])
    return asked


def test_what_trains_is_the_same_with_and_without(tmp_path: Path) -> None:
    taken: list[dict[str, Judgement] | None] = []
    for name, mixing in (("with", OFTEN), ("without", None)):
        (tmp_path / name).mkdir()
        labels, ids = queue(tmp_path / name, mixing=mixing)
        asked = work(labels)
        controls = [one for one in asked if isinstance(one, Control)]
        assert bool(controls) == (mixing is not None)
        assert [one.id for one in asked if not isinstance(one, Control)] == ids
        taken.append(labels.take(ids))
        progress = labels.progress("ann")
        assert (progress.left, progress.mine) == (0, len(asked))
        assert {one.question for one in labels.labels()} == set(ids) == set(labels.cases())
        assert report(labels).judged == {"ann": len(ids)}
    assert taken[0] == taken[1] is not None
    shown = str(taken[0])
    assert not any(one.id in shown for one in controls)


def test_they_are_asked_at_their_share_and_a_repeat_in_the_other_order(tmp_path: Path) -> None:
    labels, _ = queue(tmp_path, 60)
    asked = work(labels)
    gold = [one for one in asked if isinstance(one, Control) and one.pair in [known.pair for known in GOLD]]
    repeats = [one for one in asked if isinstance(one, Control) and one not in gold]
    assert len(gold) == len(GOLD), "each of them once"
    assert 10 <= len(repeats) <= 40, "of 60 drawn with 1/2"
    place = {one.pair.id: i for i, one in enumerate(asked) if not isinstance(one, Control)}
    for one in repeats:
        first = asked[place[one.pair.id]]
        assert one.swapped("ann") != first.swapped("ann") and one.assisted("ann") == first.assisted("ann")
        between = asked[place[one.pair.id] + 1 : asked.index(one)]
        assert sum(not isinstance(other, Control) for other in between) >= OFTEN.spacing
    assert len({one.pair.id for one in repeats}) == len(repeats)


def test_they_look_like_the_others(tmp_path: Path) -> None:
    labels, _ = queue(tmp_path, 40)
    shown = [(as_shown(one, "ann"), one) for one in work(labels)]
    kinds = {json.dumps([sorted(sent), sent["any"], sent["task"], sent["round"], len(sent["id"])]) for sent, _ in shown}
    assert len(kinds) == 1
    text = json.dumps([sent for sent, one in shown if isinstance(one, Control)])
    assert "gold" not in text and "repeat" not in text and "control" not in text


@pytest.mark.parametrize("ahead", [1, 3])
def test_nothing_that_is_told_on_the_way_falls_where_a_control_comes(tmp_path: Path, ahead: int) -> None:
    Store(tmp_path / "run.db").close()
    labels, _ = queue(tmp_path, 60)
    told: list[tuple[str, dict[str, object], bool]] = []
    prompt = Terminal(tmp_path, labels, "ann", Console(file=io.StringIO()))._prompt
    while found := labels.claim("ann", ahead):
        told.append((prompt(), standing(labels.progress("ann"), True), isinstance(found[0], Control)))
        judge(labels, found[0], "ann")
    assert 10 < sum(control for *_, control in told) < 60 < len(told)
    for n, (typed, page, _) in enumerate(told):
        assert typed == f"[{n} judged by you] > " and page == {"mixed": True, "mine": n, "judged": n}


def held(labels: Labels) -> Control:
    """The first control that Ann is asked, those before it judged; the question it comes before is open."""
    while not isinstance(found := labels.claim("ann", 1)[0], Control):
        judge(labels, found, "ann")
    return found


def test_what_comes_after_training_went_on_is_late_for_a_control_too(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    one = held(labels)
    place = labels.claim("ann", 2)[1].id
    key = judge(labels, one, "ann")
    judge(labels, labels.question(place), "ann")
    later = held(labels)
    for question in labels.questions(ids).values():
        if question.id not in {label.question for label in labels.labels()}:
            judge(labels, question, "ben")
    assert labels.take(ids) is not None and labels.claim("ann", 3) == []
    assert labels.progress("ann").left == 0, "nobody is asked what it comes before, and so not the control"
    sent = str(uuid.uuid4())
    assert labels.answer(sent, later.id, "ann", "first").late and labels.answer(sent, later.id, "ann", "first").late
    assert not labels.answer(key, one.id, "ann", "first").late, "sent again: it was in time"
    assert labels.undo(str(uuid.uuid4()), "ann", key).late
    assert labels.claim("ann", 3) == [], "as a question is that training has used"


def test_gold_that_would_be_told_from_the_others_is_refused(tmp_path: Path) -> None:
    def spans(case: Case, outcome: Outcome) -> dict[str, tuple[int, int]]:
        return {"a1": (0, 3)}

    def draw(case: Case, outcome: Outcome, said: object) -> list[Picture]:
        return [Picture("one", "o")]

    helped = [Gold(pair(200 + i), 1.0) for i in range(8)]
    moves = [replace(pair(i), a=Outcome("a", data={"move": 1})) for i in range(9)]
    for name, pairs, locate, drawing, gold, why in (
        ("spans", None, spans, no_pictures, helped, "rows without assistance"),
        ("drawn", None, no_spans, draw, GOLD, "Task.drawing"),
        ("data", moves, no_spans, no_pictures, GOLD, "outcomes of these are data"),
        ("bare", None, spans, no_pictures, GOLD, ""),
    ):
        (tmp_path / name).mkdir()
        labels, pairs = Labels(tmp_path / name), pairs or [pair(i) for i in range(9)]
        mixing = Mixing(gold=0.5)
        labels.mix(gold, mixing)  # there is no question to be seen yet
        labels.ask("t", 0, "Which?", pairs, 1, 0.3, locate, drawing)
        if not why:  # without assistance nothing is lit up in any
            labels.mix(gold, mixing)
            assert any(isinstance(one, Control) for one in work(labels))
            continue
        with pytest.warns(Notice, match="t: gold questions are not asked"):
            assert not any(isinstance(one, Control) for one in work(labels))
        with pytest.raises(LabelError, match=f"gold questions at t would be told .*{why}"):
            labels.mix(gold, mixing)


def test_of_gold_that_was_put_right_the_newest_counts(tmp_path: Path) -> None:
    labels, _ = queue(tmp_path, 60, None)
    wrong = [replace(one, better=1 - one.better) for one in GOLD]
    for gold, right in ((wrong, False), (GOLD, True), (wrong, False), (GOLD, True)):
        labels.mix(gold, Mixing(gold=0.4))
        for _ in range(12):  # fewer than all: some are left for what the file says next
            one = labels.claim("ann")[0]
            known = next((known for known in GOLD if known.pair.id == one.pair.id), None)
            judge(labels, one, "ann", known is None or known.better == 1)
        own = labels.controlled()["ann"].gold
        assert own.n and own.right == (own.n if right else 0)
    work(labels)
    assert labels.controlled()["ann"].gold.n == len(GOLD), "no pair twice"


def test_a_killed_server_asks_the_same_and_sending_again_adds_nothing(tmp_path: Path) -> None:
    labels, _ = queue(tmp_path)
    judged = 0
    while not isinstance(found := labels.claim("ann", 3)[0], Control):
        judge(labels, found, "ann")
        judged += 1
    again = Labels(tmp_path)  # nothing was closed
    again.mix(GOLD, OFTEN)
    assert [one.id for one in again.claim("ann", 3)] == [one.id for one in labels.claim("ann", 3)]
    with pytest.raises(LabelError, match="not for ben"):
        again.answer(str(uuid.uuid4()), found.id, "ben", "first")
    key = judge(again, found, "ann")
    assert labels.answer(key, found.id, "ann", "tie").status == "repeated"
    assert labels.answer(str(uuid.uuid4()), found.id, "ann", "tie").status == "known"
    assert labels.progress("ann").mine == judged + 1
    undone = labels.undo(str(uuid.uuid4()), "ann")
    assert undone.question == found.id and labels.claim("ann", 3)[0].id == found.id, "the latest, whichever it was"
    judge(labels, found, "ann")
    assert sum(one.gold.n + one.repeats.n for one in labels.controlled().values()) == 1


def test_the_report_counts_right_ones_and_agreement_with_oneself(tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    labels, _ = queue(tmp_path, 60)
    right = same = gold = repeats = 0
    given: dict[str, bool] = {}
    while found := labels.claim("ann", 1):
        (one,) = found
        says = (one.pair.case.data["n"] + isinstance(one, Control)) % 3 > 0
        judge(labels, one, "ann", says)
        known = next((known for known in GOLD if known.pair.id == one.pair.id), None)
        if known is not None:
            gold, right = gold + 1, right + (says == (known.better == 1))
        elif isinstance(one, Control):
            repeats, same = repeats + 1, same + (says == given[one.pair.id])
        else:
            given[one.pair.id] = says
    (own,) = labels.controlled().values()
    assert (own.gold.right, own.gold.n, own.repeats.right, own.repeats.n) == (right, gold, same, repeats)
    assert 0 < right < gold and 0 < same < repeats
    lines = report(labels, "ann").lines()
    assert any(line.startswith(f"ann, gold questions: right on {right} of {gold} (95 % interval") for line in lines)
    assert f"the same both times on {same} of {repeats} " in terminal(tmp_path).replace("\n", " ")
    assert judged_controls(tmp_path) == [line for line in lines if "gold" in line or "twice" in line]
    assert report(labels, "ben").controls == {}


def test_the_interval_is_wilsons() -> None:
    for right, n in ((0, 3), (7, 8), (5, 5), (30, 90)):
        found = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right, n) == pytest.approx((found.low, found.high), abs=1e-5)


def test_shares_that_cannot_be_are_refused() -> None:
    for shares in ((-0.1, 0.0), (0.3, 0.3), (0.0, float("nan"))):
        with pytest.raises(LabelError, match="give shares"):
            Mixing(*shares)


def test_who_is_forgotten_is_in_no_control(tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    labels, _ = queue(tmp_path, 20)
    work(labels, "Annemarie")
    before = labels.controlled()["Annemarie"]
    labels.close()
    told = forgetting.forget(tmp_path, "Annemarie", "keep")
    assert Labels(tmp_path).controlled() == {told.pseudonym: before}
    assert b"Annemarie" not in (tmp_path / "labels.db").read_bytes()
    forgetting.forget(tmp_path, told.pseudonym, "withdraw")
    assert Labels(tmp_path).controlled() == {}


def test_gold_is_read_as_rows_that_are_imported(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Add 1 and 1.", "chosen": "2", "rejected": "3"},
        {"prompt": "Add 2 and 2.", "chosen": "4", "rejected": "four", "preference": 0.5},
    ]
    file = tmp_path / "gold.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, tie = gold_of(file, "sums", ["sums", "sums/carries"])
    assert first.pair.task == "sums" and tie.better == 0.5
    better = first.pair.a if first.better == 1 else first.pair.b
    assert better.text == "2" and first.pair.case.prompt == "Add 1 and 1."
    turned = {"prompt": "Add 1 and 1.", "chosen": "3", "rejected": "2"}
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], turned]))
    with pytest.raises(ValueError, match=r"gold\.jsonl:1 and gold\.jsonl:4 judge the same two outcomes"):
        gold_of(file, "sums", ["sums"])
    file.write_text(json.dumps({"prompt": "Add.", "chosen": "2"}) + "\n")
    with pytest.raises(ValueError, match=r"gold\.jsonl:1: no rejected"):
        gold_of(file, "sums", ["sums"])


def test_gold_before_training_has_set_the_run_up_says_so_and_a_mark_of_utf_8_is_no_text(tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    file = tmp_path / "gold.jsonl"
    file.write_text(json.dumps({"prompt": "Add.", "chosen": "2", "rejected": "3"}) + "\n", encoding="utf-8-sig")
    with pytest.raises(ConfigError, match=r"training has not set .* up yet"):
        _mix(Labels(tmp_path), tmp_path, file, 0.1, 0.0)
    (tmp_path / "said.txt").write_text("Be fair.", encoding="utf-8-sig")
    assert _guidelines(tmp_path / "said.txt") == "Be fair."
