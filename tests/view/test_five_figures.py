"""The five figures: on stores whose answers are known, on runs that lack what they need, and how they are shown."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.judgements import ACCEPT, Comparison, Judgement, Margin, Pair, improved_first
from rrm.core.parties import ACTED, EPISODES, STAGES, STEPS, TAMPERED, UNACCEPTABLE
from rrm.core.records import Case, Outcome, digest
from rrm.core.shares import Known
from rrm.store.store import Store
from rrm.view.accuracy import Predicted, predicted
from rrm.view.challenge_records import UNSCORED, Challenges, Unknown, plain
from rrm.view.figures import tables_of
from rrm.view.five_figures import challenges_of
from rrm.view.inspect import show_challenges
from rrm.view.reading import Reader
from rrm.view.web.static_copy import export
from tests.view import synthetic
from tests.view.test_pages import open_app
from tests.view.test_pages import plain as words

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_0_1_0"
SEED = 3
"""Of `synthetic.configure`."""


def judged(round: int, case: int, prefers: float | None, purpose: str = "", a: str = "left", b: str = "right",
           task: str = "paper") -> Comparison:  # fmt: skip
    pair = Pair(task, Case(f"case {round} {purpose} {case}"), Outcome(a), Outcome(b))
    return Comparison(pair, Judgement(prefers, attention=2), round, "bounded", 1.5, purpose)


def asked(round: int, case: int, won: float) -> Comparison:
    """Whether an improvement stands: the new agent's outcome was preferred (1), or lost (0)."""
    one = judged(round, case, 1.0, ACCEPT)
    first = improved_first(digest(SEED, "paper", round), one.case.id)
    return replace(one, judgement=Judgement(won if first else 1 - won, attention=2))


def for_new(one: Comparison, margin: float) -> Margin:
    """A reward model's view of an acceptance comparison, by how much it is for the new agent."""
    first = improved_first(digest(SEED, "paper", one.round), one.case.id)
    return Margin(one.id, margin if first else -margin, 0.1, heldout=True)


def stored(folder: Path, comparisons: Sequence[Comparison], accept: int = 4, **settings: object) -> Store:
    synthetic.configure(folder)
    config = json.loads((folder / "config.json").read_text())
    config["tree"]["paper"]["settings"] |= {"accept": accept, "rounds": 2, **settings}
    (folder / "config.json").write_text(json.dumps(config))
    store = Store(folder / "run.db")
    for i, one in enumerate(comparisons):
        store.add(one, i)
    return store


def of(folder: Path, node: str = "paper") -> Challenges:
    with Reader(folder) as run:
        return challenges_of(run, run.nodes[node])


def known(value: object) -> Known:
    assert isinstance(value, Known), value
    return value


# --- on stores with known answers --------------------------------------------------------------------


def shifted(folder: Path) -> Path:
    """Two rounds. The first reward model is right on what was held out from it, and wrong in the second round and on
    its own improvement, whose reward rises while the user prefers the agent of before."""
    first = [judged(0, i, float(i % 2)) for i in range(40)]
    accept = [asked(0, i, 0.0) for i in range(20)]
    second = [judged(1, i, float(i % 2)) for i in range(20)] + [judged(1, 20, 0.5), judged(1, 21, None)]
    store = stored(folder, first)
    store.checkpoint("paper", 0, "reward", "x", "0")
    for i, one in enumerate([*accept, *second]):
        store.add(one, i)

    def right(one: Comparison, sign: int, heldout: bool) -> Margin:
        return Margin(one.id, sign * (1.0 if one.preference == 1.0 else -1.0), 0.1, heldout)

    store.score("paper", 0, [right(one, 1, i >= 20) for i, one in enumerate(first)])
    store.score("paper", 0, [for_new(one, 2.0) for one in accept])  # it is sure of the new agent
    store.score("paper", 0, [right(one, -1, True) for one in second])
    for step, reward in enumerate((0.0, 1.0, 3.0)):
        store.log("paper", 0, "improve", step, {"reward": reward, "kl": 2.0 * step, "reward_std": 0.5})
    store.log("paper", 0, "accept", 0, {"preferred": 0.0, "comparisons": 20.0, "kept": 0.0})
    store.close()
    return folder


def test_a_reward_model_that_is_right_at_home_and_wrong_a_round_ahead(tmp_path: Path) -> None:
    found = of(shifted(tmp_path / "run")).distribution
    assert not isinstance(found, Unknown)
    (first,) = found
    own, accept, later, ahead, drop = map(known, (first.own, first.accept, first.next, first.ahead, first.drop))
    assert (own.mean, own.n, own.cases) == (1.0, 20, 20) and own.low > 0.8
    assert (accept.mean, accept.n) == (0.0, 20)
    assert (later.mean, later.n) == (0.0, 20), "ties and abstentions are left out"
    assert (ahead.mean, ahead.n) == (0.0, 40)
    assert drop.mean == 1.0 and 0.7 < drop.low < 1.0
    sure = [1 / (1 + math.exp(-margin)) for margin in (2.0, 1.0)]
    assert known(first.expected).mean == pytest.approx(sum(sure) / 2), "it was sure, and wrong"


def test_an_agent_whose_reward_rises_while_the_user_prefers_the_old_one(tmp_path: Path) -> None:
    found = of(shifted(tmp_path / "run")).gaming
    assert not isinstance(found, Unknown)
    (first,) = found
    assert (first.rewards, first.kl, first.kept) == ((0.0, 3.0), 4.0, False)
    expected = 1 / (1 + math.exp(-2.0))
    assert known(first.predicted).mean == pytest.approx(expected)
    assert known(first.preferred).mean == 0.0 and known(first.preferred).high < 0.2
    assert known(first.gap).mean == pytest.approx(expected)
    assert isinstance(first.truth, Unknown)


def test_a_reward_model_that_says_what_the_user_says_has_no_gap(tmp_path: Path) -> None:
    """Half of the improved outcomes win, and the reward model knows which."""
    accept = [asked(0, i, float(i % 2)) for i in range(40)]
    store = stored(tmp_path / "run", [judged(0, 0, 1.0), *accept])
    store.score("paper", 0, [for_new(one, 9.0 if i % 2 else -9.0) for i, one in enumerate(accept)])
    store.log("paper", 0, "improve", 0, {"reward": 0.0})
    store.log("paper", 0, "accept", 0, {"preferred": 0.5, "comparisons": 40.0, "kept": 1.0})
    store.close()
    found = of(tmp_path / "run").gaming
    assert not isinstance(found, Unknown)
    assert known(found[0].predicted).mean == pytest.approx(0.5)
    gap = known(found[0].gap)
    assert gap.low <= 0 <= gap.high and gap.high - gap.low < 0.01


def test_whose_outcome_is_which_is_not_guessed(tmp_path: Path) -> None:
    folder = shifted(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seed": 99}))
    found = of(folder).gaming
    assert not isinstance(found, Unknown)
    assert isinstance(found[0].gap, Unknown) and "cannot be told" in found[0].gap.why
    assert known(found[0].preferred).mean == 0.0, "what the user said is known all the same"


def test_what_was_spent_is_counted_to_each_rounds_end_with_the_tree_below(tmp_path: Path) -> None:
    below = [judged(0, i, 1.0, task="paper/proofs") for i in range(5)]
    late = [judged(1, i, 1.0, task="paper/proofs") for i in range(3)]
    store = stored(tmp_path / "run", [*below, *(judged(0, i, 1.0) for i in range(4))])
    time.sleep(0.02)  # what is judged later has a later time
    for i, one in enumerate([*late, judged(1, 0, 1.0), judged(1, 1, 1.0)]):
        store.add(one, i)
    for step, truth in ((0, 0.25), (1, 0.5)):
        store.log("paper", 0, "truth", step, {"truth": truth})
    store.log("paper", 1, "truth", 1, {"truth": 0.75})
    store.close()
    found = of(tmp_path / "run").amount
    assert not isinstance(found, Unknown)
    told = [(one.round, one.judgements, one.judgements_below, one.attention, one.attention_below, one.truth)
            for one in found]  # fmt: skip
    assert told == [(-1, 0, 0, 0, 0, 0.25), (0, 4, 9, 8, 18, 0.5), (1, 6, 14, 12, 28, 0.75)]
    assert found[-1].seconds == pytest.approx(14 * 1.5)
    proofs = of(tmp_path / "run", "paper/proofs").amount
    assert not isinstance(proofs, Unknown) and proofs[-1].judgements_below == 8


def test_what_was_taken_back_was_spent_all_the_same_and_counts_for_nothing_else(tmp_path: Path) -> None:
    folder = shifted(tmp_path / "run")
    before = of(folder)
    with closing(Store(folder / "run.db")) as store:  # as `rrm people --forget` does: a row that stands for another
        db = store._db
        names = [row[1] for row in db.execute("PRAGMA table_info(comparisons)") if row[1] != "seq"]
        copied = ", ".join({"supersedes": "seq", "preference": "NULL"}.get(name, name) for name in names)
        db.execute(
            f"INSERT INTO comparisons ({', '.join(names)}) SELECT {copied} FROM comparisons WHERE round = 1 LIMIT 5"
        )
    after = of(folder)
    assert not isinstance(before.distribution, Unknown) and not isinstance(after.distribution, Unknown)
    assert before.amount == after.amount
    assert known(before.distribution[0].next).n == known(after.distribution[0].next).n + 5


def test_the_best_of_a_group_is_found_through_its_pairs(tmp_path: Path) -> None:
    """Scores 0, 1 and 5 of one case, of which 0 and 5 were never compared; the other case's are alike."""
    chain = [judged(0, 0, 1.0, a="one", b="zero"), judged(0, 0, 1.0, a="five", b="one")]
    flat = [judged(0, 1, 1.0, a="x", b="y")]
    store = stored(tmp_path / "run", [*chain, *flat])
    margins = (1.0, 4.0, 0.0)
    store.score("paper", 0, [Margin(one.id, m, 0.1, False) for one, m in zip([*chain, *flat], margins, strict=True)])
    store.close()
    found = of(tmp_path / "run").gap
    assert not isinstance(found, Unknown)
    unit = math.sqrt((1 + 16) / (2 * 3))
    assert known(found[0].gap).mean == pytest.approx((5 - 2) / unit / 2)
    assert (known(found[0].gap).cases, found[0].outcomes) == (2, 2.5)


def test_scores_of_what_was_judged_later_are_no_part_of_a_rounds_unit(tmp_path: Path) -> None:
    first, later = [judged(0, i, 1.0) for i in range(4)], [judged(1, i, 1.0) for i in range(4)]
    store = stored(tmp_path / "run", [*first, *later])
    store.score("paper", 0, [Margin(one.id, 1.0 + i, 0.1, False) for i, one in enumerate(first)])
    before = of(tmp_path / "run").gap
    store.score("paper", 0, [Margin(one.id, 50.0, 0.1, True) for one in later])
    store.close()
    after = of(tmp_path / "run").gap
    assert not isinstance(before, Unknown) and not isinstance(after, Unknown) and before[0] == after[0]


def test_the_unacceptable_is_bounded(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)], cases=10, outcomes=5)
    store.log("paper", 0, "sample", 0, {"malformed": 0.06})
    store.log("paper", 1, "sample", 0, {"malformed": 0.0})
    store.log("paper", 0, "improve", 0, {"reward": 0.0, "hidden fallen": 0.5})
    store.log("paper", 1, "improve", 3, {"reward": 0.0, "hidden fallen": 0.125})
    store.close()
    found = of(tmp_path / "run").unacceptable
    assert not isinstance(found.all, Unknown) and (found.all.k, found.all.n) == (3, 100)
    assert not isinstance(found.last, Unknown) and (found.last.k, found.last.n) == (0, 50)
    assert found.last.most == pytest.approx(1 - 0.05 ** (1 / 50)) and found.all.most > 0.03
    assert found.ends == {"fallen": (0.5, 0.125)}


def test_shares_that_are_of_other_outcomes_are_not_counted(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)], cases=10, outcomes=5)
    store.log("paper", 0, "sample", 0, {"malformed": 1 / 7})
    store.close()
    found = of(tmp_path / "run").unacceptable
    assert isinstance(found.all, Unknown) and isinstance(found.last, Unknown)


def test_an_adversarys_outcomes_are_not_counted_as_the_agents(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)], cases=10, outcomes=5, adversary=0.4)
    store.log("paper", 0, "sample", 0, {"malformed": 0.02})
    store.log("paper", 1, "sample", 0, {"malformed": 0.1})
    store.close()
    found = of(tmp_path / "run").unacceptable
    assert [(one.k, one.n) for one in found.rounds] == [(1, 50), (3, 30)]


@pytest.mark.parametrize("trained, said", [(1, "last round"), (3, "last round asked (2)")])
def test_rounds_in_which_nobody_looked_are_said(tmp_path: Path, trained: int, said: str) -> None:
    """What the agent became after the user was last asked is not counted, and does not pass for counted."""
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)], cases=10, outcomes=5, feedback="refresh=4")
    for round in (0, 1):
        store.log("paper", round, "sample", 0, {"malformed": 0.0})
    for round in range(trained + 1):
        store.log("paper", round, "improve", 0, {"reward": 0.0})
    store.close()
    with Reader(tmp_path / "run") as run:
        (table,) = [one for one in tables_of(run, run.nodes["paper"]) if one.title == "Unacceptable outcomes"]
    shown = [row[0] for row in table.rows]
    assert shown == ["all rounds", said]


def test_a_round_in_which_nobody_is_asked_has_the_reward_model_of_before(tmp_path: Path) -> None:
    """As the setting `feedback` makes them: what is judged next is a round ahead of that."""
    first, later = ([judged(round, i, float(i % 2)) for i in range(20)] for round in (0, 2))
    store = stored(tmp_path / "run", [*first, *later], accept=0, feedback="refresh=2")
    for round in (0, 1):
        store.checkpoint("paper", round, "reward", f"{round}", "same")
    store.score("paper", 0, [Margin(one.id, 1.0 if one.preference else -1.0, 0.1, True) for one in first])
    store.score("paper", 1, [Margin(one.id, -1.0 if one.preference else 1.0, 0.1, True) for one in later])
    store.log("paper", 1, "truth", 1, {"truth": 0.5})
    store.close()
    found = of(tmp_path / "run")
    assert not isinstance(found.distribution, Unknown) and not isinstance(found.amount, Unknown)
    second = found.distribution[1]
    assert (known(second.own).mean, known(second.next).mean, known(second.drop).mean) == (1.0, 0.0, 1.0)
    assert [(one.round, one.judgements) for one in found.amount] == [(0, 20), (1, 20), (2, 40)]


def test_what_was_judged_before_is_nothing_new_to_it(tmp_path: Path) -> None:
    first = [judged(0, i, 1.0) for i in range(4)]
    store = stored(tmp_path / "run", [*first, *(replace(one, round=1) for one in first), judged(1, 9, 1.0)])
    store.score("paper", 0, [Margin(one.id, -1.0, 0.1, True) for one in first])
    store.score("paper", 0, [Margin(judged(1, 9, 1.0).id, 1.0, 0.1, True)])
    store.close()
    found = of(tmp_path / "run").distribution
    assert not isinstance(found, Unknown)
    assert (known(found[0].next).mean, known(found[0].next).n) == (1.0, 1)


@pytest.mark.parametrize("how", ["the other way round", "once more"])
def test_a_pair_that_was_asked_otherwise_is_nothing_new_either(tmp_path: Path, how: str) -> None:
    """Its name is another then; the outcomes that the reward model was fitted to are the same."""
    first = judged(0, 0, 1.0)
    pair = first.pair.swapped() if how == "the other way round" else replace(first.pair, again=1)
    again, new = replace(first, pair=pair, round=1), judged(1, 9, 1.0)
    assert again.id != first.id
    store = stored(tmp_path / "run", [first, again, new])
    store.score("paper", 0, [Margin(first.id, -1.0, 0.1, True)])
    store.score("paper", 0, [Margin(again.id, -1.0, 0.1, True), Margin(new.id, 1.0, 0.1, True)])
    store.close()
    found = of(tmp_path / "run").distribution
    assert not isinstance(found, Unknown)
    assert (known(found[0].next).mean, known(found[0].next).n) == (1.0, 1)


def test_what_stays_held_out_counts_once_over_all_rounds(tmp_path: Path) -> None:
    first, second, third = ([judged(round, i, 1.0) for i in range(10)] for round in range(3))
    store = stored(tmp_path / "run", [*first, *second, *third])
    for round, so_far in enumerate((first, [*first, *second])):
        store.score("paper", round, [Margin(one.id, 1.0, 0.1, True) for one in so_far])
    for round, ahead in enumerate((second, third)):
        store.score("paper", round, [Margin(one.id, -1.0, 0.1, True) for one in ahead])
    store.close()
    found = of(tmp_path / "run").distribution
    assert not isinstance(found, Unknown)
    assert [known(one.own).n for one in found] == [10, 20, 20] and found[-1].round is None


def test_an_optimization_that_the_limit_ended_says_so(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)], steps=8, max_kl=2.0)
    for step, reward in enumerate((0.0, 0.5, 0.75)):
        store.log("paper", 0, "improve", step, {"reward": reward, "kl": 1.5 * step, "reward_std": 1.0 / (1 + step)})
    store.log("paper", 0, "improve", 2, {"stopped": 1.0})
    store.close()
    found = of(tmp_path / "run").convergence
    assert not isinstance(found, Unknown)
    assert (found.gain, found.stopped, found.steps, found.asked) == (0.75, True, 2, 8)
    assert (found.kl, found.limit, found.spread) == (3.0, 2.0, pytest.approx(1 / 3))


def test_tampering_is_what_the_environment_says_of_real_episodes(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)])
    for round, k in ((0, 3.0), (1, 5.0)):
        row = {EPISODES: 8.0, STEPS: 80.0, TAMPERED: k, UNACCEPTABLE: 1.0}
        store.log("paper", round, ACTED, STAGES.index("to judge"), row)
        store.log("paper", round, ACTED, STAGES.index("own steps"), row | {EPISODES: 100.0, TAMPERED: 90.0})
    store.close()
    found = of(tmp_path / "run").tampering
    assert not isinstance(found, Unknown)
    counts = [(one.k, one.n) for one in (found.judged, found.last, found.own) if not isinstance(one, Unknown)]
    assert counts == [(8, 16), (5, 8), (180, 200)]
    with Reader(tmp_path / "run") as run:
        said = " ".join(line for table in tables_of(run, run.nodes["paper"]) for line in table.notes)
    assert "8 of 16" in said and "5 of 8" in said and "180 of 200" in said
    assert json.loads(json.dumps(plain(found)))["last"]["k"] == 5


# --- what is not known -------------------------------------------------------------------------------


def test_a_run_that_asked_nobody_says_not_known_and_why(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, i, 1.0) for i in range(4)], accept=0)
    store.log("paper", 0, "improve", 0, {"reward": 0.0})
    store.close()
    found = of(tmp_path / "run")
    assert not isinstance(found.gaming, Unknown) and not isinstance(found.amount, Unknown)
    for value in (found.gaming[0].preferred, found.gaming[0].gap, found.amount[0].preferred):
        assert isinstance(value, Unknown) and "accept is 0" in value.why
    assert isinstance(found.tampering, Unknown)


def test_a_run_that_kept_no_scores_of_later_judgements_says_how_to_have_them(tmp_path: Path) -> None:
    first = [judged(0, i, float(i % 2)) for i in range(10)]
    store = stored(tmp_path / "run", [*first, *(asked(0, i, 1.0) for i in range(4)), judged(1, 0, 1.0)])
    store.score("paper", 0, [Margin(one.id, 1.0, 0.1, True) for one in first])
    store.log("paper", 0, "improve", 0, {"reward": 0.0})
    store.log("paper", 0, "accept", 0, {"preferred": 1.0, "comparisons": 4.0, "kept": 1.0})
    store.close()
    found = of(tmp_path / "run")
    assert not isinstance(found.distribution, Unknown) and not isinstance(found.gaming, Unknown)
    assert found.distribution[0].ahead == found.distribution[0].drop == Unknown(UNSCORED)
    assert known(found.distribution[0].own).mean == 0.5
    assert found.gaming[0].gap == Unknown(UNSCORED) and known(found.gaming[0].preferred).mean == 1.0


def test_what_was_scored_later_is_none_of_an_older_fits_accuracy(tmp_path: Path) -> None:
    """Whose metrics say only how many were held out, so that they are counted by what is kept."""
    with Reader(shifted(tmp_path / "run")) as run:
        assert predicted(run.db, "paper", 0, {"n_holdout": 20.0}) == Predicted(20, 20, "cases")


def test_a_run_of_an_older_version_opens() -> None:
    with Reader(FIXTURE) as run:
        for node in run.nodes.values():
            found = plain(challenges_of(run, node))
            assert json.loads(json.dumps(found, allow_nan=False)) == found
            assert found["amount"] and "not known" in json.dumps(found["distribution"])


def test_a_run_that_has_just_begun_has_no_figures(tmp_path: Path) -> None:
    stored(tmp_path / "run", []).close()
    found = of(tmp_path / "run")
    parts = (found.amount, found.distribution, found.gaming, found.gap, found.convergence, found.unacceptable.all)
    assert all(isinstance(part, Unknown) for part in parts)


# --- how they are shown ------------------------------------------------------------------------------


def test_they_are_shown_in_the_terminal_and_on_a_page(tmp_path: Path) -> None:
    folder = shifted(tmp_path / "run")
    console = Console(file=io.StringIO(), width=160)
    with Reader(folder) as run, console.capture() as capture:
        show_challenges(run, "paper", console)
    terminal = " ".join(capture.get().split())
    with open_app(folder) as client:
        assert 'href="/r/run/challenges/paper"' in client.get("/r/run/node/paper").text
        page = words(client.get("/r/run/challenges/paper").text)
        assert client.get("/r/run/challenges/nothing").status_code == 404
    for text in (terminal, page):
        assert "1.00 [0.83, 1.00], n 20" in text and "0.00 → 3.00" in text and "undone" in text
        assert "not known (1)" in text and "Tampering: not known" in text


def test_a_narrow_terminal_gets_a_list_and_no_cut_numbers(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=70)
    with Reader(shifted(tmp_path / "run")) as run, console.capture() as capture:
        show_challenges(run, "paper", console)
    told = " ".join(capture.get().split())
    assert "round 1: held out 1.00 [0.83, 1.00], n 20; does it stand? 0.00" in told and "…" not in told


def test_they_are_in_a_static_copy(tmp_path: Path) -> None:
    export([shifted(tmp_path / "run")], tmp_path / "out")
    (page,) = (tmp_path / "out").glob("**/challenges/paper/index.html")
    assert "Feedback distribution" in page.read_text()


def test_they_are_printed_as_json(tmp_path: Path) -> None:
    folder = shifted(tmp_path / "run")
    done = CliRunner().invoke(app, ["inspect", str(folder), "paper", "--challenges", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["nodes"]
    assert found["node"] == "paper" and found["distribution"][0]["ahead"]["mean"] == 0.0
    assert "not known" in found["tampering"]
    every = CliRunner().invoke(app, ["inspect", str(folder), "--challenges", "--json"])
    assert {one["node"] for one in json.loads(every.stdout)["nodes"]} == {*synthetic.TREE}
    assert CliRunner().invoke(app, ["inspect", str(folder), "--json"]).exit_code != 0


def test_they_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rrm.view.reading import Reader; import rrm.command.cli;"
        "from rrm.view.figures import tables_of\n"
        f"with Reader(Path({str(shifted(tmp_path / 'run'))!r})) as run: tables_of(run, run.nodes['paper'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_was_acted_out_is_counted_in_all_and_by_what_it_was_for(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)], cases=10, outcomes=5)
    real = {"real episodes": 10.0, "real steps": 90.0, "unacceptable": 2.0}
    store.log("paper", 0, "acted", STAGES.index("to judge"), real)
    store.log("paper", 1, "acted", STAGES.index("to judge"), real)
    many = {"real episodes": 80.0, "real steps": 500.0, "unacceptable": 0.0}
    store.log("paper", 1, "acted", STAGES.index("own steps"), many)
    plans = {"real episodes": 0.0, "real steps": 0.0, "imagined episodes": 7.0}
    store.log("paper", 1, "acted", STAGES.index("accept after"), plans)
    store.close()
    acted = of(tmp_path / "run").unacceptable.acted
    assert not isinstance(acted, Unknown)
    assert [one.what for one in acted] == ["all", "to judge", "own steps", "accept after"]
    whole, judge, own, after = acted
    assert (whole.episodes, whole.steps, whole.imagined) == (100, 680, 7) and (after.episodes, after.imagined) == (0, 7)
    harms = [one.harm for one in (whole, judge, own)]
    assert [(one.k, one.n) for one in harms if not isinstance(one, Unknown)] == [(4, 100), (4, 20), (0, 80)]
    assert isinstance(after.harm, Unknown)
    with Reader(tmp_path / "run") as run:
        (table,) = [one for one in tables_of(run, run.nodes["paper"]) if one.title == "Unacceptable outcomes"]
    said = "Acted out in training: 100 episodes of 680 steps, and 7 imagined; 4 unacceptable"
    assert any(said in note for note in table.notes)


def test_what_an_environment_does_not_call_unacceptable_is_not_counted_as_none(tmp_path: Path) -> None:
    store = stored(tmp_path / "run", [judged(0, 0, 1.0)])
    assert isinstance(of(tmp_path / "run").unacceptable.acted, Unknown)
    store.log("paper", 0, "acted", STAGES.index("to judge"), {"real episodes": 10.0, "real steps": 90.0})
    store.close()
    acted = of(tmp_path / "run").unacceptable.acted
    assert not isinstance(acted, Unknown) and isinstance(acted[0].harm, Unknown) and acted[0].episodes == 10
