"""What is said of one outcome: kept, taught to reward models, held as a constraint; and what follows from corrections
and demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rrm import BoundedUser, Case, Judgement, Outcome, Pair, Settings, Task, train
from rrm.core import border
from rrm.core.errors import ConfigError, Notice
from rrm.core.judgements import DERIVED, Comparison, Event
from rrm.core.records import Group
from rrm.core.remarks import Remark, Remarked
from rrm.core.settings import SettingError
from rrm.core.validation import faults, plant
from rrm.loop.cautious import MULTIPLIER, CautiousJudge
from rrm.models.backbone import Backbone
from rrm.store.journal import MemoryJournal
from rrm.store.store import Origin, Store
from tests import mini
from tests.bandits import Impatient, Interrupted, example

ASK = "rating=7,approval,unacceptable,note"
FEW = {"rounds": 1, "cases": 6, "comparisons": 10, "steps": 1, "batch": 2, "group": 2, "accept": 2, "max_tokens": 40}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


def tree(**changes: object) -> Task:
    task = replace(mini.tree(), assistants=(), unacceptable=("proofs",))
    return replace(task, settings=task.settings.model_copy(update=FEW | changes))


@pytest.fixture(scope="module")
def plain(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which nobody is asked for remarks: what several are compared with."""
    out = tmp_path_factory.mktemp("plain") / "run"
    train(tree(), BoundedUser(), backbone, out)
    return out


def stored(out: Path) -> Store:
    return Store(out / "run.db")


def weights(out: Path) -> dict[tuple[int, str], str]:
    """(round, part) -> a digest of the checkpoint."""
    return {name: sha for name, (_, sha) in stored(out).checkpoints("paper").items()}


# --- records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["ratings", "rating=1", "rating=10", "rating=x", "approval=2", "note,note", "yes no"])
def test_other_kinds_are_errors(wrong: str) -> None:
    with pytest.raises(SettingError, match="ask="):
        Settings(ask=wrong)


@pytest.mark.parametrize(
    "wrong, says",
    [
        (Remark("rating", 6.0, 5), "whole number from 1 to 5"),
        (Remark("rating", 2.5, 5), "whole number"),
        (Remark("rating", 1.0, 1), "levels"),
        (Remark("approval"), "1 for yes"),
        (Remark("unacceptable", 0.5), "1 for yes"),
        (Remark("correction"), "better outcome"),
        (Remark("note", text="  "), "without words"),
        (Remark("stars", 3.0), "no kind"),  # type: ignore[arg-type]
        (Remark("rating", float("nan"), 5), "not a finite number"),
        (Remark("note", text="a\ud800"), "unicode"),
        ("good", "in a list of Remark"),
    ],
)
def test_a_remark_that_means_nothing_is_refused(wrong: Remark, says: str) -> None:
    with pytest.raises(border.BorderError, match=says):
        border.judged(Judgement(1.0, remarks_b=(wrong,)), "the user")


def test_remarks_come_back_as_they_were_kept_and_once(tmp_path: Path) -> None:
    said = (Remark("rating", 3.0, 5), Remark("correction", better=Outcome("w7", (9, 2), (-0.5, -0.25))))
    pair = Pair("t", Case("w3"), Outcome("w4"), Outcome("w5"))
    one = Comparison(pair, Judgement(1.0, remarks_a=said, remarks_b=(Remark("note", text="bad"),)), 0, "u")
    other = Comparison(Pair("t", Case("w3"), Outcome("w4"), Outcome("w6")), Judgement(0.0), 0, "u")
    alone = Remarked("t", Case("w8"), Outcome("w9"), Remark("demonstration"), "imported(x)")
    store = Store(tmp_path / "run.db")
    for _ in range(2):
        store.add(one, 0)
        store.add(other, 1)
        store.bring_remarks([(alone, [Origin("ab", "x.jsonl", 1)])])
    assert [c.judgement.remarks_a for c in store.comparisons("t")] == [said, ()]
    assert store.comparisons("t", 0)[0].judgement.remarks_b == one.judgement.remarks_b
    assert store.remarks("t") == [alone] and store.remarks("other") == []
    assert [r.outcome.text for r in store.comparisons()[0].remarks] == ["w4", "w4", "w5"]
    assert store.counts()["remarks"] == 4
    store.close()


def test_a_job_takes_remarks_along(tmp_path: Path) -> None:
    """Records of a journal hold them, and another journal takes them once."""
    one, two = MemoryJournal(), MemoryJournal()
    pair = Pair("t", Case("w3"), Outcome("w4"), Outcome("w5"))
    one.add(Comparison(pair, Judgement(1.0, remarks_a=(Remark("approval", 1.0),)), 0, "u"), 0)
    for _ in range(2):
        two.pour(one.records())
    assert two.comparisons() == one.comparisons() and two.comparisons()[0].judgement.remarks_a
    assert two.counts()["remarks"] == 1


# --- a whole run -------------------------------------------------------------------------------------


def test_a_user_is_asked_for_no_more_than_the_settings_say(tmp_path: Path, backbone: Backbone, plain: Path) -> None:
    train(tree(ask=ASK), BoundedUser(), backbone, tmp_path / "all")
    everything, nothing = stored(tmp_path / "all"), stored(plain)
    said = [remark.remark for c in everything.comparisons() for remark in c.remarks]
    assert {one.kind for one in said} == {"rating", "approval", "unacceptable", "note"}
    assert {one.levels for one in said if one.kind == "rating"} == {7}
    assert not nothing.counts()["remarks"]
    fits = {name for *_, name, _ in everything.metrics("paper", "fit")}
    assert {"ratings", "marks"} <= fits
    assert not {"ratings", "marks", "derived"} & {name for *_, name, _ in nothing.metrics("paper", "fit")}
    both = zip(everything.comparisons(), nothing.comparisons(), strict=False)
    assert all(a.preference == b.preference for a, b in both if a.id == b.id)  # to be asked more changes no preference


def test_what_a_user_never_says_is_told(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.warns(Notice, match=r"in none of 10 comparisons of round 0 did bounded.* give a correction"):
        train(tree(ask="correction,rating"), BoundedUser(), backbone, tmp_path)


def test_a_simulated_rating_agrees_with_the_preference(tmp_path: Path, backbone: Backbone) -> None:
    train(tree(ask="rating=9", comparisons=12), BoundedUser(), backbone, tmp_path)
    decided = 0
    for c in stored(tmp_path).comparisons():
        (a,), (b,) = c.judgement.remarks_a, c.judgement.remarks_b
        assert a.value is not None and b.value is not None and c.preference is not None
        assert (a.value - b.value) * (c.preference - 0.5) >= 0
        decided += a.value != b.value
    assert decided


def test_an_interrupted_run_with_remarks_is_the_same_to_the_bit(tmp_path: Path, backbone: Backbone) -> None:
    task = tree(ask=ASK, unacceptable=0.02, rounds=2)
    train(task, BoundedUser(), backbone, tmp_path / "whole")
    for patience in (5, 13, 10**9):
        try:
            train(task, Impatient(patience=patience), backbone, tmp_path / "broken")
        except Interrupted:
            continue
    whole, broken = stored(tmp_path / "whole"), stored(tmp_path / "broken")
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    assert whole.counts()["remarks"] == broken.counts()["remarks"] > 0


# --- the constraint ----------------------------------------------------------------------------------


def test_the_multiplier_grows_while_the_constraint_is_broken_and_goes_on_in_the_next_round(
    tmp_path: Path, backbone: Backbone
) -> None:
    task = tree(ask="unacceptable", unacceptable=0.0, rounds=2, steps=2, comparisons=18)
    train(task, BoundedUser(), backbone, tmp_path)
    metrics = stored(tmp_path).metrics("paper", "improve")
    rows = [(round, value) for _, round, _, _, name, value in metrics if name == MULTIPLIER]
    assert [round for round, _ in rows] == [0, 0, 1, 1]
    values = [value for _, value in rows]
    assert values == sorted(values) and values[0] > 0 and len({*values}) == 4


def test_without_a_mark_nothing_is_held(tmp_path: Path, backbone: Backbone, plain: Path) -> None:
    """Nobody has marked anything: there is nothing to learn a constraint of, and the reward is what it was."""
    train(tree(unacceptable=0.0), BoundedUser(), backbone, tmp_path / "held")
    assert weights(tmp_path / "held") == weights(plain)


class Marking(BoundedUser):
    """Finds everything unacceptable."""

    def judge(self, task: Task, pair: Pair) -> Judgement:
        mark = (Remark("unacceptable", 1.0),)
        return replace(super().judge(task, pair), remarks_a=mark, remarks_b=mark)


def test_where_everything_is_unacceptable_the_multiplier_grows(tmp_path: Path, backbone: Backbone) -> None:
    train(tree(ask="unacceptable", unacceptable=0.5), Marking(), backbone, tmp_path)
    found = {name: value for *_, name, value in stored(tmp_path).metrics("paper", "improve")}
    assert found[MULTIPLIER] > 0 and found["unacceptable"] > 0.9


def test_form_stays_the_floor_however_much_the_constraint_takes(backbone: Backbone, tmp_path: Path) -> None:
    seen: dict[str, list[float]] = {"formed": [], "formless": []}

    def watch(node: Any, event: Event) -> None:
        if event.phase == "fit" and not event.step:
            judge, free = CautiousJudge(node, ()), CautiousJudge(node, (), holds=False)
            judge.multiplier = 50.0
            case, good = node.comparisons[0].case, next(
                o for c in node.comparisons for o in (c.a, c.b) if not node.task.fault(c.case, o)
            )  # fmt: skip
            (rewards,) = judge([Group(case, (good, Outcome("title title")))])
            seen["formed"].append(float(rewards[0]))
            seen["formless"].append(float(rewards[1]))
            free([Group(case, (good,))])
            assert not free.held() and free.multiplier == 0  # an adversary's judge holds nothing

    train(tree(ask="unacceptable", unacceptable=0.0, max_tokens=96), Marking(), backbone, tmp_path, watch=[watch])
    assert seen["formed"] and all(a > b for a, b in zip(seen["formed"], seen["formless"], strict=True))


def test_what_cannot_be_held_is_said_before_training() -> None:
    found = [str(fault) for fault in faults(plant(replace(tree(unacceptable=0.1), unacceptable=("prose",))))]
    assert any("unacceptable names prose" in line and line.startswith("error") for line in found)
    assert any("Set ask=unacceptable" in line for line in found)


def test_a_reward_model_that_cannot_learn_of_it_is_named(tmp_path: Path) -> None:
    bandit = example("custom_agent")
    task = replace(bandit.pull, settings=bandit.pull.settings.model_copy(update={"ask": "rating"}))
    with pytest.raises(ConfigError, match="asks for rating, of which its reward model"):
        train(task, BoundedUser(), bandit.Bandits(), tmp_path)


# --- corrections and demonstrations ------------------------------------------------------------------


BETTER = Outcome("claim 1 + 1 = 2")


class Correcting(BoundedUser):
    """Says of each A what it should have been."""

    def judge(self, task: Task, pair: Pair) -> Judgement:
        found = super().judge(task, pair)
        return replace(found, remarks_a=(Remark("correction", better=BETTER),))


def test_corrections_are_fitted_and_nothing_else(tmp_path: Path, backbone: Backbone, plain: Path) -> None:
    train(tree(ask="correction"), Correcting(), backbone, tmp_path / "corrected")
    corrected, without = stored(tmp_path / "corrected"), stored(plain)
    fit = {name: value for *_, name, value in corrected.metrics("paper", "fit")}
    assert fit["derived"] > 0 and fit["n"] == {name: v for *_, name, v in without.metrics("paper", "fit")}["n"]
    assert all(c.purpose != DERIVED for c in corrected.comparisons())
    scored = corrected._db.execute("SELECT DISTINCT pair FROM scores").fetchall()
    assert {pair for (pair,) in scored} <= {c.id for c in corrected.comparisons()}
    assert corrected.checkpoints("paper")[0, "reward"] != without.checkpoints("paper")[0, "reward"]


def test_who_was_asked_about_a_pair_has_said_it(tmp_path: Path, backbone: Backbone) -> None:
    """A correction that is the other outcome is no further evidence, and nothing of it stands in for the comparison."""

    class Swapping(BoundedUser):
        def judge(self, task: Task, pair: Pair) -> Judgement:
            return replace(super().judge(task, pair), remarks_a=(Remark("correction", better=pair.b),))

    train(tree(ask="correction", holdout=0.3, holdout_by="pair"), Swapping(), backbone, tmp_path)
    found = stored(tmp_path)
    fit = {name: value for *_, name, value in found.metrics("paper", "fit")}
    held = found._db.execute("SELECT COUNT(*) FROM scores WHERE held AND round = 0").fetchone()[0]
    assert "derived" not in fit and "too_long" not in fit
    assert held >= fit["n_holdout"] > 0 and fit["decided"] <= fit["n"]


def demonstrate(out: Path, task: Task, cases: Sequence[Case], text: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    store = Store(out / "run.db")
    shown = [Remarked(task.path, case, Outcome(text), Remark("demonstration"), "imported(x)") for case in cases]
    store.bring_remarks([(one, [Origin("ab", "x.jsonl", n)]) for n, one in enumerate(shown)])
    store.close()


def test_demonstrations_are_preferred_and_cloned(tmp_path: Path, backbone: Backbone) -> None:
    task = tree(clone=3, demonstrated=4, steps=0)
    assert task.cases is not None
    cases = task.cases.draw(6, "shown")
    demonstrate(tmp_path / "shown", task, cases, "claim 1 + 1 = 2")
    root = train(task, BoundedUser(), backbone, tmp_path / "shown")
    found = stored(tmp_path / "shown")
    losses = [value for *_, phase, _, name, value in found.metrics("paper") if (phase, name) == ("clone", "loss")]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True)
    fit = {name: value for *_, name, value in found.metrics("paper", "fit")}
    kept = found.sampled("paper", 0, "demonstrated")
    assert kept is not None and len(kept) == 4 and fit["derived"] == sum(len(group.outcomes) for group in kept)
    # The reward model puts what was shown above what the agent did there.
    assert root.reward is not None
    groups = [replace(group, outcomes=(Outcome("claim 1 + 1 = 2"), *group.outcomes)) for group in kept]
    means = torch.stack([score.mean for score in root.reward.score(groups)])
    assert bool((means[:, 0] > means[:, 1:].mean(1)).all())


def test_imported_demonstrations_need_nothing_of_the_tasks_cases(tmp_path: Path, backbone: Backbone) -> None:
    """Assistants know nothing of a case that is a prompt and no more; what was taken back since is no demonstration."""
    whole = mini.tree()
    few = {**FEW, "frame_cases": 2, "outcomes": 2}
    (writing, _) = whole.assistants
    assert isinstance(writing, Task)
    writing = replace(writing, settings=writing.settings.model_copy(update=few | {"max_tokens": 16}))
    task = replace(whole, assistants=(writing,), settings=whole.settings.model_copy(update=few | {"demonstrated": 2}))
    demonstrate(tmp_path, task, [Case("write"), Case("another")], "claim 1 + 1 = 2")
    train(task, BoundedUser(), backbone, tmp_path)
    store = stored(tmp_path)
    assert {name: value for *_, name, value in store.metrics("paper", "fit")}["derived"] > 0
    kept = store.sampled("paper", 0, "demonstrated")
    assert kept is not None and {group.case.prompt for group in kept} == {"write", "another"}


def test_imported_remarks_that_teach_nothing_are_told(tmp_path: Path) -> None:
    bandit, out = example("custom_agent"), tmp_path / "run"
    out.mkdir()
    store = Store(out / "run.db")
    marked = Remarked("pull", Case("pull"), Outcome("", data={"arm": "left"}), Remark("approval", 1.0), "imported(x)")
    store.bring_remarks([(marked, ())])
    store.close()
    with pytest.warns(Notice, match="learns nothing of imported remarks: 1 of approval"):
        train(bandit.pull, BoundedUser(), bandit.Bandits(), out)


def test_nothing_is_cloned_that_nobody_showed(tmp_path: Path, backbone: Backbone, plain: Path) -> None:
    train(tree(clone=3), BoundedUser(), backbone, tmp_path / "clone")
    assert weights(tmp_path / "clone") == weights(plain)
