"""Several people's judgements of one pair, and exports of several nodes: nothing is lost, and nothing is miscounted."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrm import BoundedUser, RRMError, train
from rrm.command.cli import app
from rrm.core.records import Case
from rrm.exchange.exporting import ExchangeError, export
from rrm.exchange.imports.loading import Imported, load
from rrm.learning.text_maker import TextMaker
from rrm.models.backbone import Backbone
from rrm.store.store import Store
from tests import toy
from tests.models.conftest import network, tokenizer

FOR = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
AGAINST = {"prompt": "Q", "chosen": "bad", "rejected": "good"}


def bring(folder: Path, rows: list[dict[str, Any]], name: str = "in") -> tuple[list[Any], Imported]:
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    done = load(file, folder / "run", "n")
    store = Store(folder / "run" / "run.db")
    try:
        return store.comparisons("n"), done
    finally:
        store.close()


def share(comparisons: list[Any]) -> float:
    """The mean preference for "good"."""
    each = [c.preference if c.a.text == "good" else 1 - c.preference for c in comparisons]
    return sum(each) / len(each)


def test_nine_for_and_one_against_are_nine_tenths(tmp_path: Path) -> None:
    comparisons, done = bring(tmp_path, [FOR] * 9 + [AGAINST])
    assert len(comparisons) == 1 and share(comparisons) == pytest.approx(0.9)
    assert comparisons[0].judgement.note == "10 judgements: 9 for A, 1 for B"
    assert "9 rows judge a pair again" in done.lines()[-1] and "1 pairs judged both ways" in done.lines()[-1]


def test_who_judged_is_kept(tmp_path: Path) -> None:
    rows = [{**FOR, "user": f"ann{i}"} for i in range(3)] + [{**AGAINST, "user": "bob"}]
    ((one,), _) = bring(tmp_path, rows)
    assert one.preference == 0.75 and one.user == "4 people" and "ann0; ann1; ann2; bob" in one.judgement.note
    store = Store(tmp_path / "run" / "run.db")
    (origins,) = store.origins("n").values()
    assert [origin.row for origin in origins] == [1, 2, 3, 4]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0, None])), min_size=1, max_size=12))
def test_the_mean_is_of_all_who_preferred_in_either_order(tmp_path_factory: Any, votes: list[tuple[bool, Any]]) -> None:
    rows = [{**(FOR if way else AGAINST), "preference": preference} for way, preference in votes]
    comparisons, done = bring(tmp_path_factory.mktemp("votes"), rows)
    given_for = [p if way else 1 - p for way, p in votes if p is not None]
    assert len(comparisons) == 1 and done.rows == len(votes) and done.again == len(votes) - 1
    if given_for:
        assert share(comparisons) == pytest.approx(sum(given_for) / len(given_for))
    else:
        assert comparisons[0].preference is None


def test_another_file_that_contradicts_is_no_repetition(tmp_path: Path) -> None:
    assert len(bring(tmp_path, [FOR], "one")[0]) == 1
    comparisons, done = bring(tmp_path, [{**FOR, "preference": 0.0}], "two")
    assert sorted(c.preference for c in comparisons) == [0.0, 1.0] and done.added == 1
    for again in ("one", "two"):  # the same files again add nothing
        assert load(tmp_path / f"{again}.jsonl", tmp_path / "run", "n").added == 0
    comparisons, done = bring(tmp_path, [FOR], "three")
    assert len(comparisons) == 2 and done.added == 0, "the same judgement of the same pair, kept with both its origins"
    store = Store(tmp_path / "run" / "run.db")
    assert sorted(len({o.sha256 for o in some}) for some in store.origins("n").values()) == [1, 1]


# --- exports of several nodes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All comparisons of a tree of three nodes."""
    out = tmp_path_factory.mktemp("tree")
    tree = toy.task(assistants=(toy.sub(assistants=(toy.sub("deep"),)),))
    train(tree, BoundedUser(), Backbone("tiny", network(), tokenizer(), "full"), out / "run")
    export(out / "run", out / "all.jsonl", "jsonl", ties=True)
    return out / "all.jsonl"


def test_a_whole_run_s_export_is_not_taken_for_one_node(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"all\.jsonl is an export of 3 nodes: beside 'toy' it has rows of toy/sub"):
        load(exported, tmp_path / "run", "toy")
    assert not (tmp_path / "run").exists()


def test_without_a_node_every_row_goes_to_its_own(exported: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in exported.read_text().splitlines()]
    wanted = Counter(row["node"] for row in rows)
    done = RUN(tmp_path, exported)
    assert done.exit_code == 0, done.output
    store = Store(tmp_path / "run" / "run.db")
    assert {node: len(store.comparisons(node)) for node in wanted} == dict(wanted) and len(wanted) == 3


def RUN(folder: Path, file: Path) -> Any:
    return CliRunner().invoke(app, ["import", str(file), "--out", str(folder / "run")])


def test_rows_that_name_no_node_need_one(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(FOR))
    done = RUN(tmp_path, tmp_path / "in.jsonl")
    assert done.exit_code == 2 and "say with --node which node was judged" in done.output


def test_one_node_may_be_imported_under_another_name(exported: Path, tmp_path: Path) -> None:
    rows = [line for line in exported.read_text().splitlines() if json.loads(line)["node"] == "toy/sub"]
    (tmp_path / "sub.jsonl").write_text("\n".join(rows))
    assert load(tmp_path / "sub.jsonl", tmp_path / "run", "elsewhere").nodes == {"elsewhere": len(rows)}


def test_groups_of_rows_do_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [FOR, AGAINST, FOR, {**FOR, "prompt": "R"}]
    found = set()
    for n, some in enumerate(itertools.permutations(rows)):
        (tmp_path / f"{n}").mkdir()
        comparisons, _ = bring(tmp_path / f"{n}", list(some))
        found.add(tuple(sorted((c.case.prompt, round(share([c]), 3)) for c in comparisons)))
    assert found == {(("Q", 0.667), ("R", 1.0))}


def long_row(folder: Path) -> Path:
    """Twelve rows, of which the fifth is too long for the model."""
    rows = [{"prompt": f"w{i + 3}", "chosen": "w5 w6", "rejected": "w7"} for i in range(12)]
    rows[4]["chosen"] = "w5 " * 400
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "in.jsonl"


def trained(folder: Path, **settings: str) -> None:
    task = toy.task(settings=toy.SMALL.model_copy(update=settings))
    train(task, BoundedUser(), Backbone("tiny", network(), tokenizer(), "full"), folder)


def test_a_row_too_long_for_the_model_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    file = long_row(tmp_path)
    load(file, tmp_path / "all", "toy")
    with pytest.raises(RRMError, match=r"toy: 1 of 15 comparisons are too long .* from in\.jsonl:5 .*--longest"):
        trained(tmp_path / "all")
    command = ["import", str(file), "--out", str(tmp_path / "few"), "--node", "toy", "--longest", "99"]
    done = CliRunner().invoke(app, command)
    assert "left out: 1, longer than 99 characters (first: in.jsonl:5)" in done.output and "11 added" in done.output
    trained(tmp_path / "few")


@pytest.mark.slow
@pytest.mark.parametrize(("then", "short"), [("skip", {"too_long": 1.0}), ("cut", {"cut": 1.0})])
def test_training_leaves_it_out_or_cuts_it_on_request(tmp_path: Path, then: str, short: dict[str, float]) -> None:
    load(long_row(tmp_path), tmp_path / "run", "toy")
    with pytest.warns(UserWarning, match=r"1 of 15 comparisons are too long .* from in\.jsonl:5 "):
        trained(tmp_path / "run", too_long=then)
    store = Store(tmp_path / "run" / "run.db")
    fits = store.metrics("toy", "fit")
    assert {name: value for _, round, _, _, name, value in fits if name in ("too_long", "cut") and not round} == short
    store.close()


def test_what_is_cut_for_a_fit_fits_and_is_a_beginning(tmp_path: Path) -> None:
    load(long_row(tmp_path), tmp_path / "run", "toy")
    store = Store(tmp_path / "run" / "run.db")
    comparisons = store.comparisons("toy")
    store.close()
    learner = TextMaker(Backbone("tiny", network(), tokenizer(), "full")).reward(toy.task(), 0)
    (long,) = learner.too_long(comparisons)
    cut = learner.shortened(long)
    assert cut is not None and not learner.too_long([cut]) and cut.preference == long.preference
    whole = {long.a.text, long.b.text}
    assert "w7" in {cut.a.text, cut.b.text} and all(any(w.startswith(o.text) for w in whole) for o in (cut.a, cut.b))
    more = replace(long, pair=replace(long.pair, case=Case("w5 " * 400)))
    assert learner.shortened(more) is None, "nothing of an outcome has room beside such a prompt"
    assert all(learner.shortened(one) is one for one in comparisons if one is not long)
