"""Sampling: what is kept while decoding is what the model says, and an outcome is nobody's company."""

from dataclasses import replace

import pytest
import torch

from rrm.core.errors import ModelError
from rrm.core.records import Case
from rrm.models import sampling as module
from rrm.models.agent import TextAgent
from rrm.models.packing import PrefixGroup
from rrm.models.sampling import sample
from rrm.models.verification import verify
from tests.models.conftest import limited

PREFIXES = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10], [12, 2, 12]]
KEYS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("adapters", ["full", "lora"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_kept_while_decoding_are_the_models(tiny, adapters, temperature):
    b = tiny(adapters)
    fork = b.fork("agent")
    with torch.no_grad():
        for p in fork.parameters():
            p += 0.02  # a LoRA fork at its start is the starting model; move it
    found = sample(fork, PREFIXES, 6, 20, temperature, KEYS, (2,))
    assert any(not ended for row in found for _, _, ended in row) or any(
        len(t) > 3 for row in found for t, _, _ in row
    )
    with torch.no_grad():
        again = fork.logprobs(
            [PrefixGroup(p, [t for t, _, _ in row]) for p, row in zip(PREFIXES, found, strict=True)]
        )
    for row, values in zip(found, again, strict=True):
        for (tokens, kept, ended), value in zip(row, values, strict=True):
            torch.testing.assert_close(torch.tensor(kept), value, atol=1e-4, rtol=0)
            assert ended == (tokens[-1] == 2) and 2 not in tokens[:-1] and (ended or len(tokens) == 20)


def test_an_outcome_does_not_depend_on_the_batch(tiny, monkeypatch):
    fork = tiny().fork("agent")
    together = sample(fork, PREFIXES, 5, 16, 1.0, KEYS, (2,))
    for prefix, key, row in zip(PREFIXES, KEYS, together, strict=True):
        alone = sample(fork, [prefix], 3, 16, 1.0, [key], (2,))[0]
        assert [t for t, _, _ in alone] == [t for t, _, _ in row[:3]]
    backwards = sample(fork, PREFIXES[::-1], 5, 16, 1.0, KEYS[::-1], (2,))[::-1]
    assert [[t for t, _, _ in row] for row in backwards] == [[t for t, _, _ in row] for row in together]
    monkeypatch.setitem(module.COMPACT, "cpu", 2.0)  # never drop a finished row
    assert [[t for t, _, _ in r] for r in sample(fork, PREFIXES, 5, 16, 1.0, KEYS, (2,))] == [
        [t for t, _, _ in r] for r in together
    ]
    limited(monkeypatch, rows=7)  # many small batches
    assert [[t for t, _, _ in r] for r in sample(fork, PREFIXES, 5, 16, 1.0, KEYS, (2,))] == [
        [t for t, _, _ in r] for r in together
    ]


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_steps_that_read_their_place_from_tensors_are_the_same(tiny, monkeypatch, adapters):
    """As a GPU takes them (`rrm.models.replay`), looking seldom at what has finished; the recording is pretended."""
    fork = tiny(adapters).fork("agent")
    plain = sample(fork, PREFIXES, 5, 40, 1.0, KEYS, (2,))
    assert len({len(tokens) for row in plain for tokens, _, _ in row}) > 5  # rows finish, and are dropped, all along
    replayed = []

    def record(steps: module.ReplayedSteps) -> module.ReplayedSteps:
        replayed.append(steps)
        return steps

    monkeypatch.setattr(module, "records", lambda fork: True)
    monkeypatch.setattr(module.ReplayedSteps, "_record", record)
    again = lambda self: setattr(self, "hidden", self._run())  # noqa: E731
    monkeypatch.setattr(module.ReplayedSteps, "replay", again, raising=False)
    for look, compact in ((1, 0.25), (7, 0.5)):
        monkeypatch.setitem(module.LOOK, "cpu", look)
        monkeypatch.setitem(module.COMPACT, "cpu", compact)
        replayed.clear()
        found = sample(fork, PREFIXES, 5, 40, 1.0, KEYS, (2,))
        assert replayed
        for one, other in zip(plain, found, strict=True):
            assert [t for t, _, _ in one] == [t for t, _, _ in other]
            for (_, a, _), (_, b, _) in zip(one, other, strict=True):
                torch.testing.assert_close(torch.tensor(a), torch.tensor(b))


def test_choosing_by_blocks_chooses_the_same():
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(400, 5 * module.BLOCK, generator=generator)
    logits[:, 17:300] = -torch.inf  # whole blocks cannot come
    logits[:7] = -torch.inf
    logits[torch.arange(7), torch.arange(7) * 90] = 0.0  # one token only
    uniform = torch.rand(400, generator=generator)
    uniform[[0, 1, 2, 9]] = torch.tensor([0.0, 1.0 - 2**-24, 0.5, 0.0])
    uniform[10:20] = 1.0 - 2**-24
    token, chance = module._choose(logits, uniform, 1.0)
    found, near = module._choose_in_blocks(logits, uniform)
    assert (token == found).float().mean() > 0.98  # a last bit can move one over a border
    assert (logits.gather(1, found[:, None]) > -torch.inf).all()
    torch.testing.assert_close(near[token == found], chance[token == found])
    broken = logits.clone()
    broken[5, 3] = torch.nan
    assert module._choose_in_blocks(broken, uniform)[0][5] == logits.shape[1]


def test_same_key_same_bits(tiny):
    fork = tiny().fork("agent")
    assert sample(fork, PREFIXES, 4, 16, 1.0, KEYS, (2,)) == sample(fork, PREFIXES, 4, 16, 1.0, KEYS, (2,))
    assert sample(fork, PREFIXES, 4, 16, 1.0, KEYS, (2,)) != sample(fork, PREFIXES, 4, 16, 1.0, KEYS[::-1], (2,))


def test_sampling_leaves_the_global_stream_alone(tiny):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    b = tiny("lora")
    sample(b.fork("agent"), PREFIXES, 2, 4, 1.0, KEYS, (2,))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kv", [1, 4])
def test_greedy_is_generate(tiny, kv):
    b = tiny(kv=kv)
    found = sample(b.start, PREFIXES, 2, 12, 1.0, KEYS, (2,), greedy=True)
    for prefix, row in zip(PREFIXES, found, strict=True):
        want = b.model.generate(
            torch.tensor([prefix]),
            attention_mask=torch.ones(1, len(prefix)),
            max_new_tokens=12,
            do_sample=False,
        )
        assert list(row[0][0]) == want[0, len(prefix) :].tolist()
        assert row[0] == row[1]


def test_frequencies_are_the_models(tiny):
    fork = tiny().start
    n = 4000
    first = torch.tensor([t[0] for t, _, _ in sample(fork, [[5, 6]], n, 1, 1.0, ["k"], (2,))[0]])
    found = torch.bincount(first, minlength=40) / n
    with torch.no_grad():
        want = fork.network(input_ids=torch.tensor([[5, 6]])).logits[0, -1].softmax(-1)
    assert (found - want).abs().max() < 0.03


def test_a_case_that_comes_twice_gets_other_outcomes(tiny):
    b = tiny()
    agent = TextAgent(b, b.fork("agent"), 10)
    one, two = agent.sample([Case("w5 w6"), Case("w5 w6")], 3, "key")
    assert one.outcomes != two.outcomes
    assert one.outcomes[0].text == b.decode([t for t in one.outcomes[0].tokens if t != 2]).strip()


def test_beyond_the_context_is_an_error(tiny):
    with pytest.raises(ModelError, match="context"):
        sample(tiny().start, [[5] * 250], 1, 20, 1.0, ["k"], (2,))


@pytest.mark.parametrize("kv", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 5])
def test_keys_kept_once_per_case_give_the_same_numbers(tiny, kv, n):
    """Padded cases, rows that finish and cases that run out, grouped-query heads: against the joined cache."""
    b = tiny(kv=kv)
    assert b.engine.groups
    shared = sample(b.start, PREFIXES, n, 24, 1.0, KEYS, (2,))
    b.engine = replace(b.engine, groups=False)
    joined = sample(b.start, PREFIXES, n, 24, 1.0, KEYS, (2,))
    assert len({len(t) for row in shared for t, _, _ in row}) > 1
    for one, two in zip(shared, joined, strict=True):
        for (t, kept, _), (u, other, _) in zip(one, two, strict=True):
            assert t == u
            torch.testing.assert_close(torch.tensor(kept), torch.tensor(other), atol=1e-5, rtol=0)


def test_a_model_with_attention_of_its_own_is_sampled_all_the_same(tiny):
    b = tiny()
    b.model._supports_attention_backend = False
    assert not verify(b).groups
