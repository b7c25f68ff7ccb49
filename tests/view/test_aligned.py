"""A comparison's page: what assistants said of A stands beside what they said of B, checks and notes are in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rrm.core.judgements import Check
from rrm.users.pairwise import weigh
from rrm.view.aligned import align
from rrm.view.checked import shown_checks
from rrm.view.comparisons import ShownAnswer
from rrm.view.user_notes import named_note
from tests.view import synthetic
from tests.view.test_pages import open_app, plain


def answer(assistant: str, fact: str = "", below: Sequence[ShownAnswer] = ()) -> ShownAnswer:
    findings = [{"fact": fact, "part": None, "holds": True}] if fact else []
    return ShownAnswer("0.0", assistant, "v", "case", f"of {fact}", False, findings, None, "", below)


def told(a: Sequence[ShownAnswer], b: Sequence[ShownAnswer]) -> list[tuple[int, str, str, str]]:
    return [
        (row.depth, row.name, *(one.text if one else "–" for one in (row.a, row.b))) for row in align(a, b)
    ]  # fmt: skip


def test_each_assistant_has_a_row_with_both_sides() -> None:
    a = [answer("t/proofs", "p", [answer("t/proofs/steps", "s")]), answer("t/data", "d")]
    b = [answer("t/data", "d"), answer("t/proofs", "p", [answer("t/proofs/steps", "s")])]
    assert told(a, b) == [
        (0, "proofs", "of p", "of p"), (1, "steps", "of s", "of s"), (0, "data", "of d", "of d")
    ]  # fmt: skip
    assert told(a, []) == [(0, "proofs", "of p", "–"), (1, "steps", "of s", "–"), (0, "data", "of d", "–")]
    assert {(d, n, two, one) for d, n, one, two in told(b, a)} == {*told(a, b)}


def test_answers_about_the_same_facts_stand_beside_one_another() -> None:
    a = [answer("t/steps", "one"), answer("t/steps", "two")]
    b = [answer("t/steps", "two"), answer("t/steps", "three"), answer("t/steps", "four")]
    rows = align(a, b)
    assert told(a, b) == [
        (0, "steps", "of one", "of three"), (0, "steps", "of two", "of two"), (0, "steps", "–", "of four")
    ]  # fmt: skip
    assert [(row.nth, row.of) for row in rows] == [(1, 3), (2, 3), (3, 3)]


def test_the_page_says_who_said_nothing_of_one_side_and_what_was_checked(tmp_path: Path) -> None:
    one = synthetic.comparison(0, note="0.500 against 0.250")
    checks = (
        Check("paper/proofs", False, True, side="b", fact="step1"),
        Check("paper/proofs", False, False, spot=0.1, side="a", fact="step1", part=0),
    )
    pair = replace(one.pair, assistance_b=one.pair.assistance_b[1:])
    one = replace(one, pair=pair, judgement=replace(one.judgement, checks=checks))
    with open_app(synthetic.make(tmp_path / "run", [one, synthetic.comparison(1)])) as client:
        page = client.get("/r/run/c/1").text
        text = plain(page)
        assert "B said nothing of B" in text and "said nothing of A" not in text
        assert 'data-points="a:step1.0"' in page and 'data-points="b:step1"' in page
        assert "A step1 its part 1 holds proofs it is wrong wrong no drawn at random" in text
        assert "B step1 does not hold proofs it is wrong right no the user's choice" in text
        assert "perceived value of A 0.500 perceived value of B 0.250 A less B +0.250" in text
        text = plain(client.get("/r/run/c/2").text)
        assert "This run did not record which fact" in text and "perceived" not in text


def test_a_check_came_out_as_its_claim_was() -> None:
    for said in (True, False):
        for right in (True, False):
            body = {"by": "t/proofs", "said": said, "right": right, "contested": False, "side": "a", "fact": "f"}
            (shown,) = shown_checks([body], "t")
            assert shown.came_out == ("holds" if said == right else "does not hold")


@pytest.mark.parametrize(("first", "second"), [(0.7, 0.6), (0.2, 0.1), (1.0, 1.0), (0.0, 0.0)])
def test_a_models_note_is_read_as_it_is_written(first: float, second: float) -> None:
    """`weigh` is given the chance of what is shown first; the page speaks of A's in either order."""
    note = weigh(first, second, 0.02).note
    values = dict(named_note("model(x)", note).figures)
    assert values["probability that A is better, asked in the order A B"] == f"{first:.3f}"
    assert values["probability that A is better, asked in the order B A"] == f"{1 - second:.3f}"
    assert values["position bias: the first less the second"].replace("−", "-") == f"{first + second - 1:+z.3f}"
    doubtful = named_note("model(x)", f"abstained: only 1e-05 of the probability on either answer; {note}")
    assert doubtful.figures and doubtful.text.startswith("abstained")


def test_what_a_person_wrote_stays_their_note() -> None:
    for note in ("0.500 against 0.250", weigh(0.7, 0.6, 0.02).note):
        assert named_note("human(ann)", note).figures == () and named_note("human(ann)", note).text == note
        assert named_note("bounded(attention=4)", note).figures


@pytest.mark.parametrize("check", [{"by": 5}, {"by": "t", "said": True}, {"side": 5}, {"fact": 5, "part": "z"}])
def test_checks_of_another_shape_are_none(check: dict[str, Any]) -> None:
    whole = {"by": "t/p", "said": True, "right": True} if "by" not in check else {}
    assert shown_checks([{**whole, **check}], "t") == []
