"""PeerRead's papers: scores of one paper become comparisons of two, and assistance on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rrm.core.judgements import Comparison
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.peerread import ASPECTS, Dealing
from rrm.models.features import FINDINGS, found
from tests.label.reviews import lines, paper, papers, review, stored, venue


def test_papers_are_compared_in_groups_of_their_venue_and_no_paper_is_in_two(tmp_path: Path) -> None:
    venue(tmp_path / "data", "acl_2017", papers(9))
    venue(tmp_path / "data", "acl_2017", papers(3, seed=1), split="dev")
    venue(tmp_path / "data", "conll_2016", papers(4, seed=2))
    venue(tmp_path / "data", "lonely", papers(1))
    done = load(tmp_path / "data", tmp_path / "run", "paper")
    assert done.format == "peerread" and done.rows == 17
    assert done.tally.left["a paper alone in its venue and split"] == 1
    found = stored(tmp_path / "run")
    parents = [c for c in found if c.pair.task == "paper"]
    assert len(parents) == (6 + 10) + 3 + 6, "nine papers: a group of four, and one of five"
    cases: dict[tuple[str, str, str], set[str]] = {}
    for c in parents:
        assert set(c.case.data["papers"]) == {p for p in c.case.data["papers"]}
        for id in c.case.data["papers"]:
            cases.setdefault((c.case.data["venue"], c.case.data["split"], id), set()).add(c.case.id)
    assert len(cases) == 16 and all(len(one) == 1 for one in cases.values())
    assert {c.user for c in parents} == {"reviewers(acl_2017)", "reviewers(conll_2016)"}
    assert 0.2 < sum(c.preference == 1 for c in parents) / sum(c.preference != 0.5 for c in parents) < 0.8
    for aspect in ASPECTS:
        child = [c for c in found if c.pair.task == f"paper/{aspect}"]
        assert [(c.case.id, c.a.id, c.b.id) for c in child] == [(c.case.id, c.a.id, c.b.id) for c in parents]
    assert load(tmp_path / "data", tmp_path / "run", "paper").added == 0


def test_papers_that_were_dealt_otherwise_are_refused(tmp_path: Path) -> None:
    rows = papers(9)
    load(lines(tmp_path / "v.jsonl", rows), tmp_path / "run", "p")
    load(lines(tmp_path / "other.jsonl", rows), tmp_path / "run", "p")  # another venue: the file's name
    for more, dealing in ((rows, Dealing(group=3)), (papers(12), Dealing())):
        with pytest.raises(ExchangeError, match="in a group of other papers"):
            load(lines(tmp_path / "v.jsonl", more), tmp_path / "run", "p", dealing=dealing)


def compared(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], **dealing: Any) -> list[Comparison]:
    load(lines(tmp_path / "v.jsonl", [first, second]), tmp_path / "run", "paper", dealing=Dealing(**dealing))
    return stored(tmp_path / "run")


def test_scores_are_means_of_reviews_and_ties_are_said(tmp_path: Path) -> None:
    good = paper(
        "1",
        review("4", CLARITY="5"),
        review(3, CLARITY=None),
        review(None, CLARITY=2),
        review(1, IS_META_REVIEW=True),
    )
    bad = paper("2", review("3.0", CLARITY="", SUBSTANCE="4"), review("N/A", ORIGINALITY="6", CLARITY="4"))
    found = {c.pair.task: c for c in compared(tmp_path, good, bad)}
    assert found.keys() == {"paper", "paper/clarity"}, "only what both have a score of"
    parent, clarity = found["paper"], found["paper/clarity"]
    first = "w1" in parent.a.text
    assert parent.preference == float(first), "3.5 against 3"
    assert clarity.preference == float(not first), "3.5 against 4"
    assert "3.50 (2 reviews)" in parent.judgement.note and "3.00 (1 review)" in parent.judgement.note
    assert "confidence 4.00 against 4.00" in parent.judgement.note
    done = load(tmp_path / "v.jsonl", tmp_path / "again", "paper", dealing=Dealing(tie=0.5, children=False))
    assert done.tally.notes == {
        "RECOMMENDATION that is no score of 1 to 10": 1,
        "ORIGINALITY that is no score of 1 to 5": 1,
    }
    assert done.ties == 1 and [c.preference for c in stored(tmp_path / "again")] == [0.5]


def test_aspect_scores_are_assistance_on_the_parents_outcomes(tmp_path: Path) -> None:
    good = paper("1", review(4, CLARITY=5, SOUNDNESS_CORRECTNESS=2))
    (parent,) = compared(tmp_path, good, paper("2", review(3, CLARITY=3, ORIGINALITY=1)), children=False)
    seen = {
        ("w1" if "w1" in outcome.text else "w2"): said
        for outcome, said in ((parent.a, parent.assistance_a), (parent.b, parent.assistance_b))
    }
    for said in seen.values():
        assert [one.assistant for one in said] == [f"paper/{aspect}" for aspect in ASPECTS]
        assert {one.version for one in said} == {"reviewers:v"}
    assert [one.text for one in seen["w1"]] == [
        "clarity right", "originality N/A", "soundness wrong soundness-3 wrong soundness-4 wrong soundness-5",
        "substance N/A",
    ]  # fmt: skip
    assert seen["w2"][0].text == "clarity wrong clarity-4 wrong clarity-5"
    features = found(seen["w1"], 4).view(4, FINDINGS)
    assert features[:, 0].tolist() == [0, 0, 3, 0], "four times the share of facts that do not hold: 5 - score"


def test_the_hubs_version_and_other_places_of_a_venue(tmp_path: Path) -> None:
    rows = []
    for one in papers(4):
        columns = {key.lower(): [r.get(key, r.get(key.lower())) for r in one["reviews"]] for key in one["reviews"][0]}
        rows.append(one | {"reviews": columns, "conference": "ACL"})
    load(lines(tmp_path / "hub.jsonl", rows), tmp_path / "hub", "paper")
    (tmp_path / "git").mkdir()
    load(venue(tmp_path / "git", "ACL", papers(4)), tmp_path / "run", "paper")
    ours, theirs = (
        sorted(
            (c.pair.task, *sorted([c.a.text, c.b.text]), c.judgement.preference in (0, 1))
            for c in stored(tmp_path / name)
        )
        for name in ("hub", "run")
    )
    assert ours == theirs


def test_whole_papers_come_from_the_parsed_pdfs(tmp_path: Path) -> None:
    folder = venue(
        tmp_path, "acl_2017", [paper("1", review(4)), paper("2", review(2), abstract=""), paper("3", review(3))]
    )
    parsed = folder / "train" / "parsed_pdfs"
    parsed.mkdir()
    sections = [{"heading": None, "text": "Intro of w."}, {"heading": "2 Method", "text": "Much."}]
    for id in ("1", "2"):
        metadata = {"title": "T", "abstractText": "From the PDF.", "sections": sections}
        (parsed / f"{id}.pdf.json").write_text(json.dumps({"name": f"{id}.pdf", "metadata": metadata}))
    load(folder, tmp_path / "abstracts", "p")
    assert len(stored(tmp_path / "abstracts")) == 3, "an abstract that lacks is taken from the PDF"
    done = load(folder, tmp_path / "whole", "p", dealing=Dealing(text="paper"))
    (one,) = stored(tmp_path / "whole")
    assert {one.a.text, one.b.text} == {
        "On w1\n\nWe study w1 .\n\nIntro of w.\n\n2 Method\n\nMuch.",
        "On w2\n\nFrom the PDF.\n\nIntro of w.\n\n2 Method\n\nMuch.",
    }
    assert done.tally.left == {"a paper without sections (no parsed PDF)": 1}


@pytest.mark.parametrize(
    "row",
    [
        paper("x") | {"reviews": "none"}, paper("x") | {"reviews": [3]}, paper("x") | {"reviews": {"a": [1], "b": []}},
        paper("x", review(3), title=7), paper("x", review(3), abstract=["a"]), paper("x", review(3), abstract="\ud800"),
        paper("x", review(3), conference={"a": 1}),
    ],
)  # fmt: skip
def test_hostile_papers_are_errors_that_name_the_row(tmp_path: Path, row: dict[str, Any]) -> None:
    file = lines(tmp_path / "in.jsonl", [*papers(2), row])
    with pytest.raises(ExchangeError, match=r"in\.jsonl:3: "):
        load(file, tmp_path / "run", "p", "peerread")
    assert load(file, tmp_path / "run", "p", "peerread", skip=True).tally.left == {"broken": 1}


def test_papers_without_a_judgement_or_a_text_are_left_out(tmp_path: Path) -> None:
    rows = [*papers(2), paper("x"), paper("y", review(None, CLARITY=3)), paper("z", review(3), abstract=None)]
    rows += [
        paper("v", review(True)),
        paper("u", review([3])),
        paper("t", review("9" * 400)),
        paper("s", review("nan")),
    ]
    done = load(lines(tmp_path / "in.jsonl", rows), tmp_path / "run", "p")
    assert done.tally.left == {
        "a paper that nobody recommended or advised against": 6,
        "a paper without an abstract": 1,
    }
    assert done.tally.notes == {"RECOMMENDATION that is no score of 1 to 10": 4}
