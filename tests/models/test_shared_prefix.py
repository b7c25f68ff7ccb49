"""What all prefixes of a batch begin with is computed once, and nobody can tell from the numbers."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrm.models.attention import GroupLayer
from rrm.models.packing import PrefixGroup
from rrm.models.sampling import SHARED, _shared, sample
from rrm.models.verification import _alike, verify

HEAD = [3 + i % 30 for i in range(SHARED + 6)]
PREFIXES = [[*HEAD, 5], [*HEAD, 7, 8, 9, 10, 11], [*HEAD, 5, 12], [*HEAD[:SHARED], 33, 34, 35]]
KEYS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("kv", [1, 4])
@pytest.mark.parametrize("groups", [True, False])
def test_outcomes_are_those_of_prefixes_computed_one_by_one(tiny, kv, groups):
    b = tiny(kv=kv)
    assert b.engine.shares
    b.engine = replace(b.engine, groups=groups)
    found = sample(b.start, PREFIXES, 3, 12, 1.0, KEYS, (2,))
    b.engine = replace(b.engine, shares=False)
    apart = sample(b.start, PREFIXES, 3, 12, 1.0, KEYS, (2,))
    scored = b.start.logprobs([PrefixGroup(p, [t for t, _, _ in row]) for p, row in zip(PREFIXES, found, strict=True)])
    for one, two, right in zip(found, apart, scored, strict=True):
        for (tokens, kept, _), (other, also, _), exact in zip(one, two, right, strict=True):
            assert tokens == other
            torch.testing.assert_close(torch.tensor(kept), torch.tensor(also), atol=1e-5, rtol=0)
            torch.testing.assert_close(torch.tensor(kept), exact, atol=1e-4, rtol=0)


def test_it_is_computed_once(tiny, monkeypatch):
    """One row of what is shared, then the rest of each: counted where keys and values come in."""
    seen, plain = [], GroupLayer.update

    def update(self, keys, values, *args, **kwargs):
        if self.layout is None:
            seen.append((keys.shape[0], keys.shape[2]))
        return plain(self, keys, values, *args, **kwargs)

    b = tiny()
    monkeypatch.setattr(GroupLayer, "update", update)
    sample(b.start, PREFIXES, 2, 2, 1.0, KEYS, (2,))
    assert seen == [(1, SHARED)] * b.layers + [(4, 11)] * b.layers


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5), st.integers(0, 2 * SHARED))
def test_what_is_shared_begins_all_and_ends_none(rests, n):
    prefixes = [[7] * n + rest or [0] for rest in rests]
    found = _shared(prefixes)
    assert found == 0 or found >= SHARED
    assert all(p[:found] == prefixes[0][:found] and len(p) > found for p in prefixes)
    if found == 0 and len(prefixes) > 1:
        common = next((i for i in range(n + 7) if len({tuple(p[: i + 1]) for p in prefixes}) > 1), n + 7)
        assert min(common, min(map(len, prefixes)) - 1) < SHARED


def test_one_prefix_alone_and_equal_ones_are_sampled(tiny):
    b = tiny()
    (alone,) = sample(b.start, [HEAD], 2, 6, 1.0, ["a"], (2,))
    twice = sample(b.start, [HEAD, HEAD], 2, 6, 1.0, ["a", "b"], (2,))
    assert [t for t, _, _ in alone] == [t for t, _, _ in twice[0]] and len(twice[1]) == 2


def test_a_model_with_windows_does_not_share(tiny):
    """A sliding layer counts columns, and there would be padding between them."""
    b = tiny()
    b.architecture = replace(b.architecture, window=8)
    assert not _alike(b)


def test_a_model_whose_context_is_too_short_to_try_it_is_loaded_all_the_same(tiny):
    """One of the same configuration but for that, so that the small copy's answer is known."""
    short = tiny()
    short.architecture = replace(short.architecture, limit=SHARED)
    assert not verify(short).shares
