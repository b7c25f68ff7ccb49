"""Ratings as comparisons with thresholds, and marks as a constraint of its own."""

from dataclasses import replace

import pytest
import torch

from rrm.core.errors import RRMError
from rrm.core.judgements import DERIVED, Comparison, Judgement
from rrm.core.judgements import Pair as Asked
from rrm.core.records import Case, Group, Outcome
from rrm.core.remarks import Remark, Remarked
from rrm.learning.fitting import fit_reward
from rrm.learning.heads import fit_heads, fit_marks
from rrm.learning.heldout import split
from rrm.learning.noting import note_losses
from rrm.learning.ordinal import first_thresholds, joined, levels_of, scales_of
from rrm.models.packing import PrefixGroup
from rrm.models.reward import CONSTRAINT, TextRewardModel, trunk
from tests.models.conftest import limited
from tests.models.test_reward import SETTINGS, pairs, text

NONE = torch.empty(0, dtype=torch.long)


def rated(level: float, levels: int = 5, by: str = "u", n: int = 0) -> Remarked:
    return Remarked("t", Case(f"w{n}"), Outcome(f"o{n}"), Remark("rating", level, levels), by)


def solved(features, remarks, heads=2, a=NONE, b=NONE, preference=None):
    """The heads' weights from ratings of the rows, and comparisons if any."""
    scales, _ = scales_of(remarks)
    levels = levels_of(remarks, range(len(remarks)), [torch.ones(heads)] * len(remarks), scales)
    preference = torch.empty(0) if preference is None else preference
    weight = torch.ones(len(a), heads)
    case = torch.arange(len(a))
    return fit_heads(features, a, b, preference, weight, torch.zeros(heads, features.shape[1]), case, levels,
                     levels.outcome)[0]  # fmt: skip


def ranked(found, truth):
    """The correlation of ranks."""
    x, y = (one.argsort().argsort().float() for one in (found, truth))
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


@pytest.fixture
def linear():
    g = torch.Generator().manual_seed(3)
    features = torch.randn(160, 6, generator=g)
    return features, features @ torch.tensor([2.0, -1.0, 0.5, 0.0, 0.0, 0.0])


def level_of(value, levels, low=-2.5, high=2.5):
    return float(min(levels, max(1, 1 + int((float(value) - low) / (high - low) * levels))))


@pytest.mark.parametrize("levels", [2, 3, 5, 9])
def test_ratings_alone_teach_the_order(linear, levels):
    features, truth = linear
    found = features @ solved(features, [rated(level_of(v, levels), levels, n=n) for n, v in enumerate(truth)]).T
    assert ranked(found[:, 0], truth) > 0.9


def test_nobodys_scale_is_taken_for_anothers(linear):
    """A lenient labeler sees the worse half, a strict one the better: read on one scale, they would turn the order
    around."""
    features, truth = linear
    order = truth.argsort()
    worse = {int(i) for i in order[:80]}

    def said(apart):
        remarks = []
        for n, value in enumerate(truth):
            low, high = (-6.0, 1.0) if n in worse else (-1.0, 6.0)
            who = ("lenient" if n in worse else "strict") if apart else "somebody"
            remarks.append(rated(level_of(value, 5, low, high), 5, who, n))
        return ranked((features @ solved(features, remarks).T)[:, 0], truth)

    assert said(apart=True) > 0.9 > said(apart=False)


def test_a_rating_weighs_as_much_as_a_comparison_whatever_its_levels():
    remarks = [rated(3.0, 9), rated(1.0, 2, n=1)]
    levels = levels_of(remarks, [0, 1], [torch.ones(2), torch.ones(2)], scales_of(remarks)[0])
    assert len(levels) == 8 + 1 and levels.ratings == 2
    torch.testing.assert_close(levels.weight.sum(0), torch.full((2,), 2.0))
    assert levels.above.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]  # level 3 of 9 is above two thresholds
    assert levels.threshold.unique().numel() == 9  # and the other scale has its own


def test_thresholds_begin_where_the_ratings_are():
    remarks = [rated(float(1 + n % 4), 4, n=n) for n in range(400)]
    levels = levels_of(remarks, range(400), [torch.ones(1)] * 400, scales_of(remarks)[0])
    begin = first_thresholds(levels, 3)
    torch.testing.assert_close(begin.sigmoid(), torch.tensor([0.25, 0.5, 0.75]), atol=0.01, rtol=0)
    assert joined([levels], [7]).outcome.min() == 7


def about(comparisons, kind, say):
    """A remark on each outcome, by how often `w7` occurs in it."""
    found = []
    for c in comparisons:
        for outcome in (c.a, c.b):
            value = say(outcome.text.split().count("w7"))
            levels = 3 if kind == "rating" else 0
            found.append(Remarked("t", c.case, outcome, Remark(kind, value, levels), "u"))
    return found


@pytest.mark.parametrize("how", ["frozen", "trained"])
def test_ratings_teach_a_reward_model_without_any_comparison(tiny, how):
    b, seen = tiny(kv=1), pairs(64)
    settings = SETTINGS.model_copy(update={"reward_trunk": how, "holdout": 0.0, "reward_epochs": 12})
    reward = TextRewardModel(b, trunk(b, "reward", how), settings)
    report = fit_reward(reward, [], settings, "k", remarks=about(seen, "rating", lambda n: float(1 + min(2, n))))
    assert report.ratings == 2 * len(seen) and report.n == 0 and not report.ignorant
    fresh = pairs(96)[192:]
    right = [
        float(score.mean[0] - score.mean[1]) * (c.preference - 0.5) > 0
        for c, score in zip(fresh, reward.score([Group(c.case, (c.a, c.b)) for c in fresh]), strict=True)
        if c.preference != 0.5
    ]
    assert sum(right) / len(right) > 0.7, report


def test_without_remarks_a_fit_is_what_it_was(tiny):
    b, settings = tiny(), SETTINGS.model_copy(update={"reward_trunk": "frozen"})
    one, two = (TextRewardModel(b, trunk(b, "reward", "frozen"), settings) for _ in range(2))
    fit_reward(one, pairs(24), settings, "k")
    notes = [Remarked("t", c.case, c.a, Remark("note", text="well"), "u") for c in pairs(24)]
    fit_reward(two, pairs(24), settings, "k", remarks=notes)
    assert one.version == two.version


@pytest.mark.parametrize("how", ["frozen", "trained"])
def test_marks_make_a_constraint_and_no_reward(tiny, how):
    b, seen = tiny(kv=1), pairs(64)
    settings = SETTINGS.model_copy(update={"reward_trunk": how, "holdout": 0.0, "reward_epochs": 1})
    plain, marked = (TextRewardModel(b, trunk(b, name, how), settings) for name in ("reward", "reward"))
    fit_reward(plain, seen, settings, "k")
    report = fit_reward(marked, seen, settings, "k", remarks=about(seen, "unacceptable", lambda n: float(n > 1)))
    groups = [Group(c.case, (c.a, c.b)) for c in seen]
    for x, y in zip(plain.score(groups), marked.score(groups), strict=True):
        torch.testing.assert_close(x.mean, y.mean, atol=1e-5, rtol=1e-5)  # marks say nothing of the reward
        assert x.unacceptable is None and y.unacceptable is not None and y.unacceptable.shape == (2,)
    chance = torch.cat([score.unacceptable for score in marked.score(groups)])
    truth = torch.tensor([float(o.text.split().count("w7") > 1) for c in seen for o in (c.a, c.b)])
    assert report.marks == len(truth) and chance[truth == 1].mean() > chance[truth == 0].mean() + 0.1
    assert marked.version != plain.version and CONSTRAINT in marked.state() and CONSTRAINT not in plain.state()
    again = TextRewardModel(b, trunk(b, "again", how), settings)
    again.load(marked.state())
    for x, y in zip(marked.score(groups[:4]), again.score(groups[:4]), strict=True):
        assert torch.equal(x.unacceptable, y.unacceptable)
    again.load(plain.state())  # a constraint that is there no more is gone
    assert again.score(groups[:1])[0].unacceptable is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_of_marks_that_are_all_alike_the_rate_is_learned(tiny, value):
    b, seen, settings = tiny(), pairs(12), SETTINGS.model_copy(update={"reward_trunk": "frozen", "holdout": 0.0})
    reward = TextRewardModel(b, trunk(b, "reward", "frozen"), settings)
    fit_reward(reward, seen, settings, "k", remarks=about(seen, "unacceptable", lambda n: value))
    chance = torch.cat([s.unacceptable for s in reward.score([Group(c.case, (c.a, c.b)) for c in seen])])
    torch.testing.assert_close(chance, torch.full_like(chance, (72 * value + 0.5) / 73))


def test_nothing_is_learned_where_nothing_was_told_apart(tiny):
    """Everything is rated 3 of 5, and approved: two scales, and no two levels on either."""
    b, seen, settings = tiny(), pairs(24), SETTINGS.model_copy(update={"reward_trunk": "frozen"})
    reward = TextRewardModel(b, trunk(b, "reward", "frozen"), settings)
    same = [*about(seen, "rating", lambda n: 3.0), *about(seen, "approval", lambda n: 1.0)]
    report = fit_reward(reward, [], settings, "k", remarks=same)
    assert "ratings it was fitted to are alike" in report.ignorant
    assert all(not score.mean.any() for score in reward.score([Group(c.case, (c.a, c.b)) for c in seen]))


def test_what_counts_nothing_is_not_fitted_at_all(tiny):
    b, settings = tiny(), SETTINGS.model_copy(update={"reward_trunk": "frozen", "imported": 0.0})
    reward = TextRewardModel(b, trunk(b, "reward", "frozen"), settings)
    imported = [replace(c, round=-1) for c in pairs(12)]
    with pytest.raises(RRMError, match="imported"):
        fit_reward(reward, imported, settings, "k", remarks=about(imported, "unacceptable", lambda n: float(n > 1)))


def test_the_constraints_offset_is_the_base_rate():
    g = torch.Generator().manual_seed(0)
    rows, marks = torch.randn(400, 3, generator=g) + 5, (torch.rand(400, generator=g) < 0.1).float()
    found = fit_marks(rows, marks, torch.ones(400, 1), torch.arange(400))
    chance = (rows @ found[:, :-1].T + found[:, -1]).sigmoid()
    assert abs(float(chance.mean()) - float(marks.mean())) < 0.02


def test_what_is_held_out_is_not_learned_from_remarks_either():
    def made(n):
        g = torch.Generator().manual_seed(n)
        a, b = Outcome(text(g, 3)), Outcome(text(g, 3))
        return Comparison(Asked("t", Case(f"w{n % 30}"), a, b), Judgement(1.0), 0, "u")

    given = [made(n) for n in range(90)]
    derived = [Comparison(c.pair, Judgement(1.0), 0, "u", 0.0, DERIVED) for c in given]
    remarks = [Remarked("t", c.case, c.a, Remark("rating", 1.0, 3), "u") for c in given]
    sides = split([*given, *derived], SETTINGS, remarks)
    away = {c.case.id for c in sides.heldout}
    assert away and all(c.purpose != DERIVED for c in sides.heldout)
    assert not away & {c.case.id for c in sides.train} and not away & {one.case.id for one in sides.remarks}
    assert len(sides.remarks) + sum(c.case.id in away for c in given) == 90


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_a_trained_trunk_learns_to_foretell_notes(tiny, adapters):
    b, seen = tiny(adapters), pairs(24)
    notes = [
        Remarked("t", c.case, o, Remark("note", text="w30 w31" if "w7" in o.text else "w32"), "u")
        for c in seen for o in (c.a, c.b)
    ]  # fmt: skip
    groups = [Group(c.case, (c.a, c.b)) for c in seen]
    texts = [[(i, notes[2 * n + i].remark.text) for i in range(2)] for n in range(len(seen))]
    loss = {}
    for weight in (0.0, 1.0):
        settings = SETTINGS.model_copy(update={"reward_trunk": "trained", "holdout": 0.0, "notes": weight})
        reward = TextRewardModel(b, trunk(b, f"reward {weight}", "trained"), settings)
        fit_reward(reward, seen, settings, "k", remarks=notes)
        with torch.no_grad():
            loss[weight] = float(sum(note_losses(reward, groups, texts))) / len(notes)
    assert loss[1.0] < loss[0.0] - 0.5


def test_what_a_note_costs_is_the_mean_of_its_tokens_in_any_company(tiny, monkeypatch):
    b = tiny()
    reward = TextRewardModel(b, b.fork("reward"), SETTINGS)
    groups = [Group(Case("w3 w4"), (Outcome("w5"), Outcome("w6 w7"))), Group(Case("w8"), (Outcome("w9"),))]
    notes = [[(1, "w10 w11"), (1, "w12")], []]

    def alone(place, words):
        (row, *_), ids = reward.rows(groups), (*b.encode(f" {words}"), b.eos_id)
        with torch.no_grad():
            (values,) = reward.fork.logprobs([PrefixGroup(row.prefix, [(*row.segments[place], *ids)])])
        return -float(values[0][len(row.segments[place]) :].mean())

    expected = sum(alone(place, words) for place, words in notes[0])
    with torch.no_grad():
        assert float(sum(note_losses(reward, groups, notes))) == pytest.approx(expected, abs=1e-4)
    limited(monkeypatch, training=8)
    parts = list(note_losses(reward, groups, notes))
    assert float(sum(part.detach() for part in parts)) == pytest.approx(expected, abs=1e-4)
    assert all(part.requires_grad for part in parts)


@pytest.mark.parametrize("how", ["frozen", pytest.param("trained", marks=pytest.mark.slow)])
def test_what_was_imported_counts_for_as_much_as_the_settings_say(tiny, how):
    """Imported judgements say the opposite of those that were asked for, and are twice as many."""
    b, seen = tiny(kv=1), pairs(192)
    asked, others, fresh = seen[:144], seen[144:432], seen[432:]
    against = [replace(c, preference=1 - c.preference, round=-1) for c in others]

    def right(weight):
        settings = SETTINGS.model_copy(
            update={"reward_trunk": how, "holdout": 0.0, "imported": weight, "reward_epochs": 10}
        )
        reward = TextRewardModel(b, trunk(b, f"reward {how}", how), settings)
        fit_reward(reward, [*asked, *against], settings, "k")
        scored = zip(fresh, reward.score([Group(c.case, (c.a, c.b)) for c in fresh]), strict=True)
        found = [float(s.mean[0] - s.mean[1]) * (c.preference - 0.5) > 0 for c, s in scored if c.preference != 0.5]
        return sum(found) / len(found)

    little, as_much = right(0.05), right(1.0)
    assert little > 0.5 > as_much and little > as_much + 0.15, (little, as_much)
