"""A packed row gives the numbers of separate rows; a score never depends on its company."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrm.core.errors import ModelError
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup, choose_width, pack, unpack
from tests.models.conftest import VOCABULARY, network, tokenizer

ids = st.integers(0, VOCABULARY - 1)
groups = st.lists(
    st.builds(
        PrefixGroup,
        st.lists(ids, min_size=1, max_size=12),
        st.lists(st.lists(ids, min_size=1, max_size=9), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=4,
)


@cache
def backbone(kv: int) -> Backbone:
    return Backbone("tiny", network(kv), tokenizer(), "full")


def plain(network, prefix, segment):
    """Log-probabilities by an ordinary forward pass of one sequence."""
    row = torch.tensor([[*prefix, *segment]])
    logp = network(input_ids=row).logits[0].log_softmax(-1)
    return logp[len(prefix) - 1 : -1].gather(1, torch.tensor(segment)[:, None])[:, 0]


@settings(max_examples=25, deadline=None)
@given(groups, st.sampled_from([1, 2, 4]), st.sampled_from([None, 1, 2, 5]), st.sampled_from([16, 64, 4096]))
def test_packed_equals_plain(given_groups, kv, width, budget):
    b = backbone(kv)
    for whole in (False, True):
        batches = pack(given_groups, d=b.d, budget=budget, whole=whole, width=width)
        values = [torch.split(b.start.token_logprobs(x), x.lengths.tolist()) for x in batches]
        got = unpack(batches, values, [len(g.segments) for g in given_groups])
        for g, row in zip(given_groups, got, strict=True):
            for segment, value in zip(g.segments, row, strict=True):
                torch.testing.assert_close(value, plain(b.model, g.prefix, segment), atol=1e-4, rtol=0)


@st.composite
def branched(draw: st.DrawFn) -> PrefixGroup:
    """A group whose segments leave the prefix at places of their own."""
    group = draw(groups)[0]
    at = draw(st.lists(st.integers(1, len(group.prefix)), min_size=len(group.segments), max_size=len(group.segments)))
    return PrefixGroup(group.prefix, group.segments, at=at)


@settings(max_examples=25, deadline=None)
@given(st.lists(branched(), min_size=1, max_size=3), st.sampled_from([None, 1, 2, 5]), st.sampled_from([16, 4096]))
def test_a_segment_sees_no_more_of_the_case_than_it_begins_behind(given_groups, width, budget):
    b = backbone(2)
    batches = pack(given_groups, d=b.d, budget=budget, width=width)
    values = [torch.split(b.start.token_logprobs(x), x.lengths.tolist()) for x in batches]
    got = unpack(batches, values, [len(g.segments) for g in given_groups])
    for g, row in zip(given_groups, got, strict=True):
        for segment, at, value in zip(g.segments, g.at, row, strict=True):
            torch.testing.assert_close(value, plain(b.model, g.prefix[:at], segment), atol=1e-4, rtol=0)


@pytest.mark.parametrize("at", [(1,), (0, 1), (1, 4)])
def test_a_segment_begins_within_its_case(at):
    with pytest.raises(ValueError, match="begins behind 1 to 3 tokens"):
        pack([PrefixGroup([1, 2, 3], [[4], [5]], at=at)], d=8)


@settings(max_examples=8, deadline=None)
@given(groups, st.sampled_from([1, 2, 4]))
def test_packed_gradients_equal_plain(given_groups, kv):
    b = backbone(kv)
    packed, unpacked = b.fork("packed"), b.fork("plain")
    for width in (1, 3):
        for x in pack(given_groups, d=b.d, budget=64, width=width):
            weight = 1.0 + x.index[x.segment]  # so that mixing outcomes up would show
            (packed.token_logprobs(x) * weight).sum().backward()
        for g in given_groups:
            for i, segment in enumerate(g.segments):
                (plain(unpacked.network, g.prefix, segment) * (1.0 + i)).sum().backward()
    for p, q in zip(packed.parameters(), unpacked.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-3, rtol=1e-3)


@settings(max_examples=15, deadline=None)
@given(groups, st.integers(10, 200), st.booleans())
def test_batches_cover_everything_within_the_budget(given_groups, budget, whole):
    batches = pack(given_groups, d=64, budget=budget, whole=whole)
    found = sorted((g, i) for x in batches for g, i in zip(x.group.tolist(), x.index.tolist(), strict=True))
    assert found == [(g, i) for g, group in enumerate(given_groups) for i in range(len(group.segments))]
    for x in batches:
        for s, (g, i) in enumerate(zip(x.group.tolist(), x.index.tolist(), strict=True)):
            assert x.targets[x.segment == s].tolist() == list(given_groups[g].segments[i])
        assert x.ids.numel() <= budget or len(x.ids) == 1 or (whole and len(set(x.group.tolist())) == 1)
    if whole:
        homes = [g for x in batches for g in set(x.group.tolist())]
        assert len(homes) == len(set(homes))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_of_a_plain_forward_makes_no_difference(side):
    """Padding is the end-of-text id here, and real end-of-text tokens are in the rows."""
    b = backbone(2)
    group = PrefixGroup([5, 2, 7], [[2, 9, 2], [8]])
    rows = [[*group.prefix, *s] for s in group.segments]
    longest = max(map(len, rows))
    out = b.start.logprobs([group])[0]
    for n, row in enumerate(rows):
        gap = longest - len(row) + 2
        left = gap if side == "left" else 0
        full = [2] * left + row + [2] * (gap - left)
        mask = [0] * left + [1] * len(row) + [0] * (gap - left)
        positions = [0] * left + list(range(len(row))) + [0] * (gap - left)
        logits = b.model(
            input_ids=torch.tensor([full, full]),
            attention_mask=torch.tensor([mask, mask]),
            position_ids=torch.tensor([positions, positions]),
        ).logits[0]
        logp = logits[left + 2 : left + len(row) - 1].log_softmax(-1)
        want = logp.gather(1, torch.tensor(group.segments[n])[:, None])[:, 0]
        torch.testing.assert_close(out[n], want, atol=1e-4, rtol=0)


def test_long_cases_share_a_row_and_short_ones_do_not():
    assert choose_width(2000, 8, 20, 512) == 8
    assert choose_width(2, 8, 400, 64) == 1


def test_empty_segments_are_refused():
    with pytest.raises(ValueError, match="non-empty"):
        pack([PrefixGroup([1], [[]])], d=8)


def test_a_model_that_ignores_the_mask_is_refused():
    model = network()
    forward = model.model.forward
    model.model.forward = lambda **kw: forward(**{**kw, "attention_mask": None})
    with pytest.raises(ModelError, match="4-D masks"):
        Backbone("deaf", model, tokenizer(), "full")


@pytest.mark.parametrize("whole", [False, True])
def test_a_long_case_is_shared_by_its_outcomes_however_small_the_budget(whole):
    """4,512 and 4 x 512 tokens are 6,560 cells, and 20,096 where each outcome repeats the case."""
    group = PrefixGroup([1] * 4512, [[2] * 512] * 4)
    batches = pack([group], d=64, budget=512, whole=whole)
    assert sum(batch.ids.numel() for batch in batches) == 4512 + 4 * 512


@settings(max_examples=25, deadline=None)
@given(groups, st.sampled_from([16, 64]))
def test_a_row_exceeds_the_budget_by_its_case_only(given_groups, budget):
    for batch in pack(given_groups, d=4096, budget=budget):
        case = max(len(given_groups[g].prefix) for g in batch.group.tolist())
        first = max(batch.lengths.tolist())
        assert batch.ids.numel() <= max(budget, 2 * case, case + first)
