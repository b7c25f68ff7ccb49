"""Where the user was wrong: truth.db beside a run, what lists and figures make of it, and who may not read it."""

from __future__ import annotations

import json
import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Answer, Assistance, Case, Finding, Outcome
from rrm.core.validation import plant
from rrm.measure.oracle import matter, true_score
from rrm.measure.run_truth import tree_named, write_truths
from rrm.store.store import Store
from rrm.store.truths import Truths
from rrm.view import comparisons as judged
from rrm.view import lists, truth
from rrm.view.reading import Reader
from rrm.view.truth import attached, rightness, true_sides
from rrm.view.web.rendering import hit
from tests import toy
from tests.layout import FILES, imports, inside, name
from tests.view import synthetic

TEXTS = ("w1 w1", "w1 w2", "w3", "w4 w5 w6", "malformed")
CASE = [Case(f"w{i}", {"n": i}) for i in range(5)]


def task() -> toy.Task:
    return plant(toy.task(assistants=(toy.sub(),)))


def said(case: Case, outcome: Outcome, rng: random.Random) -> tuple[Assistance, ...]:
    findings = tuple(Finding(fact, rng.random() < 0.5) for fact in ("even", "varied", "unknown"))
    return (Assistance("toy/sub", "v1", (Answer(case, Outcome("x"), findings[: rng.randrange(4)], None),)),)


def run(folder: Path, n: int = 60) -> list[Comparison]:
    rng = random.Random(0)
    store, made = Store(folder / "run.db"), []
    for i in range(n):
        case, (a, b) = CASE[i % 5], [Outcome(f"{rng.choice(TEXTS)}") for _ in range(2)]
        pair = Pair("toy", case, a, b, said(case, a, rng), said(case, b, rng))
        made.append(Comparison(pair, Judgement(rng.choice([0.0, 0.5, 1.0, None])), i // 20, rng.choice("xyz"), 1.0))
        store.add(made[-1], i)
    store.close()
    synthetic.configure(folder)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Comparison]]:
    folder = tmp_path_factory.mktemp("truth")
    made = run(folder)
    write_truths(folder, toy.task(assistants=(toy.sub(),)))
    return folder, made


def kept(made: list[Comparison], folder: Path) -> list[Comparison]:
    """As the store has them: of one pair asked twice in a round, the first."""
    store = Store(folder / "run.db")
    try:
        return store.comparisons("toy")
    finally:
        store.close()


def test_lists_find_where_anybody_is_wrong(folder: tuple[Path, list[Comparison]]) -> None:
    root, rows = task(), kept(folder[1], folder[0])

    def better(c: Comparison) -> float:
        return true_score(root, c.pair.case, c.pair.a) - true_score(root, c.pair.case, c.pair.b)

    def untrue(c: Comparison) -> bool:
        for outcome, told in ((c.pair.a, c.pair.assistance_a), (c.pair.b, c.pair.assistance_b)):
            if outcome.text == "malformed":
                continue
            holds = {fact.name: matter(fact) for fact in root.facts_of(c.pair.case, outcome)}
            if any(holds.get(f.fact, f.holds) != f.holds for one in told for f in one.findings):
                return True
        return False

    def wrong(c: Comparison) -> float:
        p = c.judgement.preference
        return 0.0 if p is None else (p - 0.5) * better(c)

    rules = {
        "user_wrong": lambda c: wrong(c) < 0, "user_right": lambda c: wrong(c) > 0,
        "user_blind": lambda c: c.judgement.preference == 0.5 and better(c) != 0, "untrue": untrue,
    }  # fmt: skip
    with Reader(folder[0]) as opened:
        for show, rule in rules.items():
            expected = [i for i, c in enumerate(rows) if rule(c)]
            found = lists.find(opened, "toy", lists.Query(show), limit=1000, seconds=60).lines
            ids = [row[0] for row in opened.rows("SELECT seq FROM comparisons ORDER BY seq")]
            assert expected and [ids.index(one.seq) for one in found] == expected, show
            assert lists.matching(opened, "toy", lists.Query(show), 60) == len(expected)
        told = {one.who: one for one in rightness(opened, "toy", 60) or ()}
        assert told["user"].wrong == sum(map(rules["user_wrong"], rows))
        assert told["user"].ties == sum(map(rules["user_blind"], rows))
        counted = [c for c in rows if c.judgement.preference is not None and better(c)]
        right = sum(map(rules["user_right"], rows)) + told["user"].ties / 2
        assert told["user"].share is not None and told["user"].share.mean == pytest.approx(right / len(counted))
        seen = {(c.pair.case.id, o.text, t) for c in rows
                for o, t in ((c.pair.a, c.pair.assistance_a), (c.pair.b, c.pair.assistance_b))}  # fmt: skip
        alarms = misses = 0
        for _, text, assistance in seen:
            if text != "malformed":
                holds = {fact.name: matter(fact) for fact in toy.facts(CASE[0], Outcome(text))}
                for f in assistance[0].findings:
                    alarms += holds.get(f.fact, False) and not f.holds
                    misses += f.holds and not holds.get(f.fact, True)
        assert told["sub, about what holds"].wrong == alarms > 0
        assert told["sub, about what does not hold"].wrong == misses > 0


def test_where_all_are_too_many_the_newest_are_counted(
    folder: tuple[Path, list[Comparison]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Reader(folder[0]) as opened:
        whole = rightness(opened, "toy", 60) or []

        def late(run: Reader, seconds: float) -> None:
            raise sqlite3.OperationalError("interrupted")

        monkeypatch.setattr(truth, "hurried", late)
        some = rightness(opened, "toy", 60) or []
        assert [replace(one, show="", ties_show="") for one in whole] == [
            replace(one, who=one.who.removesuffix(" (the newest 3,000)")) for one in some
        ], "there are fewer than that"
        monkeypatch.setattr(truth, "NEWEST", 10)
        some = rightness(opened, "toy", 60) or []
        assert some[0].who == "user (the newest 10)" and some[0].share is not None and 0 < some[0].share.n < 10


def test_a_comparison_shows_what_is_so(folder: tuple[Path, list[Comparison]]) -> None:
    with Reader(folder[0]) as opened:
        c = judged.comparison(opened, 1)
        assert c is not None
        sides = true_sides(opened, "toy", c.case_blob, (c.a.blob, c.b.blob))
        assert sides is not None
        for side, shown in zip(sides, (c.a, c.b), strict=True):
            outcome = Outcome(shown.text)
            assert side.score == true_score(task(), CASE[0], outcome)
            if shown.text != "malformed":
                assert side.holds == {f.name: matter(f) for f in toy.facts(CASE[0], outcome)}


def test_measuring_again_adds_what_is_new_and_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    run(tmp_path, 5)
    before = (tmp_path / "run.db").read_bytes()
    told: list[str] = []
    path = write_truths(tmp_path, toy.task(assistants=(toy.sub(),)), told.append)
    again: list[str] = []
    write_truths(tmp_path, toy.task(assistants=(toy.sub(),)), again.append)
    assert (tmp_path / "run.db").read_bytes() == before and path.exists() and told and not again
    with pytest.raises(RRMError, match="judged at 'toy', which the tree 'other' lacks"):
        write_truths(tmp_path, toy.task("other"))
    with pytest.raises(RRMError, match="no run there"):
        write_truths(tmp_path / "nowhere", toy.task())


def test_other_code_finds_it_anew_and_code_that_knows_of_no_facts_leaves_no_file(tmp_path: Path) -> None:
    run(tmp_path, 5)
    tree = toy.task(assistants=(toy.sub(),))
    with pytest.raises(RRMError, match="no facts"):
        write_truths(tmp_path, toy.task(facts=lambda case, outcome: [], assistants=(toy.sub(),)))
    assert not (tmp_path / "truth.db").exists()
    write_truths(tmp_path, tree)
    truths = Truths(tmp_path)
    known = truths.known("toy")
    assert known and truths.begin("other code") and not truths.known("toy") and not truths.begin("other code")
    truths.close()
    told: list[str] = []
    write_truths(tmp_path, tree, told.append)
    truths = Truths(tmp_path)
    assert truths.known("toy") == known and "found anew" in told[0]
    truths.close()


def test_a_tree_is_known_by_its_root_only_if_it_is_one_of_ours(tmp_path: Path) -> None:
    synthetic.configure(tmp_path)
    assert tree_named(tmp_path) == "paper"
    config = json.loads((tmp_path / "config.json").read_text())
    config["about"]["code"] = {"rrm": "1", "rrm_tasks": "2", "mine.py": "3"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RRMError, match=r"a tree in mine\.py"):
        tree_named(tmp_path)


def test_without_a_truth_there_is_none_of_it(tmp_path: Path) -> None:
    run(tmp_path, 5)
    with Reader(tmp_path) as opened:
        assert not attached(opened) and rightness(opened, "toy") is None
        assert not lists.filters_of(opened).keys() & lists.BY_TRUTH.keys()
        assert len(lists.find(opened, "toy", lists.Query("user_wrong")).lines) == 5  # an unknown filter is none
    (tmp_path / "truth.db").write_bytes(b"no database at all " * 100)
    with Reader(tmp_path) as opened:
        assert not attached(opened) and len(lists.find(opened, "toy").lines) == 5
    (tmp_path / "truth.db").unlink()
    Truths(tmp_path).close()
    with Reader(tmp_path) as opened:
        assert attached(opened) and rightness(opened, "toy") == []


def test_nothing_that_trains_may_read_it() -> None:
    free = ("rrm/measure/", "rrm/view/", "rrm/trust/", "rrm/command/", "tests/")
    wrong = [
        f"{name(path)} imports {dotted}" for path in FILES for dotted in imports(path)
        if inside(dotted, "rrm.store.truths") and not name(path).startswith(free)
    ]  # fmt: skip
    assert not wrong


# --- lists -------------------------------------------------------------------------------------------


def test_lists_by_who_judged_and_by_what_an_assistant_says_of_which(folder: tuple[Path, list[Comparison]]) -> None:
    rows = kept(folder[1], folder[0])

    def verdict(told: tuple[Assistance, ...]) -> str:
        if not told[0].findings:
            return "N/A"
        return "yes" if all(f.holds for f in told[0].findings) else "no"

    with Reader(folder[0]) as opened:
        ids = [row[0] for row in opened.rows("SELECT seq FROM comparisons ORDER BY seq")]
        assert lists.labelers(opened, "toy") == ["x", "y", "z"]
        for labeler in "xyz":
            found = lists.find(opened, "toy", lists.Query(labeler=labeler), limit=99, seconds=60).lines
            assert [ids.index(one.seq) for one in found] == [i for i, c in enumerate(rows) if c.user == labeler]
        for says in ("yes", "no", "N/A"):
            for of in ("a", "b", ""):
                wanted = lists.Query(who="toy/sub", says=says, of=of)
                found = lists.find(opened, "toy", wanted, limit=99, seconds=60).lines
                expected = [
                    i for i, c in enumerate(rows)
                    if (of != "b" and verdict(c.pair.assistance_a) == says)
                    or (of != "a" and verdict(c.pair.assistance_b) == says)
                ]  # fmt: skip
                assert expected and [ids.index(one.seq) for one in found] == expected, (says, of)


@pytest.mark.parametrize("order", [order for order in lists.ORDERS if order])
def test_a_sorted_list_has_all_and_pages(folder: tuple[Path, list[Comparison]], order: str) -> None:
    with Reader(folder[0]) as opened:
        whole = lists.find(opened, "toy", lists.Query(order=order), limit=1000, seconds=60)
        paged: list[int] = []
        after: int | None = 0
        while after is not None:
            page = lists.find(opened, "toy", lists.Query(order=order), after, limit=7, seconds=60)
            paged += [one.seq for one in page.lines]
            after = page.after
        assert paged == [one.seq for one in whole.lines] and len({*paged}) == len(paged) == len(kept([], folder[0]))
        if order == "newest":
            assert paged == sorted(paged, reverse=True)


def test_what_takes_too_long_says_so(folder: tuple[Path, list[Comparison]]) -> None:
    with Reader(folder[0]) as opened:
        opened.rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n")
        assert lists.matching(opened, "toy", lists.Query("untrue"), seconds=60) is not None
        assert rightness(opened, "toy", seconds=60) is not None
        assert opened.row("SELECT 1") == (1,)  # no clock is left running


def test_hits_are_marked_and_nothing_else_is_markup() -> None:
    assert hit("<b>Left 7 left</b>", "LEFT", 90) == "&lt;b&gt;<mark>Left</mark> 7 <mark>left</mark>&lt;/b&gt;"
    assert hit("<script>", "", 90) == "&lt;script&gt;"
    assert hit("a<b", "<", 90) == "a<mark>&lt;</mark>b"
