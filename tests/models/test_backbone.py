"""Backbones and forks: rendering, state, adapters, errors that say what is wrong."""

import gc
import threading
import time

import pytest
import torch

from rrm.core.errors import ModelError
from rrm.core.records import Case, Group, Outcome
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from tests.models.conftest import limited, network, tokenizer

GROUP = PrefixGroup([5, 6, 7], [[8, 9, 2], [10]])


def test_load_from_a_folder(tmp_path):
    network().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    b, direct = Backbone.load(str(tmp_path)), Backbone("tiny", network(), tokenizer())
    assert b.adapters == "full" and b.vocabulary == 40 and b.eos_id == 2
    assert b.fingerprint == direct.fingerprint != Backbone("other", network(seed=1), tokenizer()).fingerprint
    assert b.decode(b.encode("w5 w6")) == "w5 w6"


def test_what_cannot_be_loaded_says_where(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        Backbone.load(str(tmp_path))


def test_the_chat_template_is_rendered_once(tiny):
    assert tiny(chat=True, bos=True).render("w5 w6") == (1, 3, 5, 6, 4)
    assert tiny(bos=True).render("w5 w6") == (1, 5, 6)  # the tokenizer would add an end-of-text
    assert tiny().render("w5 w6") == (5, 6)
    assert tiny().render("") == (1,)


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_forks_are_independent_and_start_at_the_start(tiny, adapters):
    b = tiny(adapters)
    one, two = b.fork("one"), b.fork("two")
    with torch.no_grad():
        start = b.start.logprobs([GROUP])[0][0]
        for fork in (one, two):
            assert torch.equal(fork.logprobs([GROUP])[0][0], start)  # KL is 0 at the start
    version = two.version
    assert one.version == b.fork("one").version
    optimizer = torch.optim.AdamW(one.parameters(), lr=0.1)
    loss = one.logprobs([GROUP])[0][0].sum()
    with torch.no_grad():
        b.start.logprobs([GROUP])  # another fork runs between forward and backward
        two.logprobs([GROUP])
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.equal(one.logprobs([GROUP])[0][0], start)
        assert torch.equal(two.logprobs([GROUP])[0][0], start)
        assert torch.equal(b.start.logprobs([GROUP])[0][0], start)
        assert two.version == version != one.version
        two.load(one.state())
        assert torch.equal(two.logprobs([GROUP])[0][0], one.logprobs([GROUP])[0][0])
    assert two.version == one.version
    one.close()
    two.close()
    with torch.no_grad():
        assert torch.equal(b.start.logprobs([GROUP])[0][0], start)


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_a_state_must_fit(tiny, adapters):
    fork = tiny(adapters).fork("agent")
    state = fork.state()
    name = next(iter(state))
    with pytest.raises(ModelError, match="missing"):
        fork.load({k: v for k, v in state.items() if k != name})
    with pytest.raises(ModelError, match="unexpected"):
        fork.load(state | {"more": torch.zeros(1)})
    with pytest.raises(ModelError, match="shape"):
        fork.load(state | {name: torch.zeros(1, 1)})


def test_many_logits_in_parts_equal_all_at_once(tiny, monkeypatch):
    b = tiny()
    whole, parts = b.fork("whole"), b.fork("parts")
    value = whole.logprobs([GROUP])[0][0]
    value.sum().backward()
    limited(monkeypatch, logits=40)
    other = parts.logprobs([GROUP])[0][0]
    other.sum().backward()
    torch.testing.assert_close(value, other)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_imported_text_is_encoded_and_ended(tiny):
    b = tiny()
    agent = TextAgent(b, b.fork("agent"), 8)
    text, ids = Outcome("w5 w6"), Outcome("w5 w6", (5, 6, 2))
    a, c = agent.logprobs([Group(Case("w9"), (text, ids))])[0]
    torch.testing.assert_close(a, c)


def test_the_adapters_of_forks_that_nobody_has_are_freed(tiny):
    """A worker trains one node after the other over one model; the forks that are left compute as before."""
    b = tiny("lora")
    kept = b.fork("kept")
    kept.load({name: value + 0.1 for name, value in kept.state().items()})
    groups = [PrefixGroup((3, 4, 5, 6), [(7, 8, 9), (9, 8, 7)])]
    before = [torch.cat(row) for row in kept.logprobs(groups)]
    adapters = {name.split(".")[-2] for name, _ in b.model.named_parameters() if "lora_" in name}
    for n in range(3):
        fork = b.fork(f"node {n}")
        fork.logprobs(groups)
        del fork
        gc.collect()
    last = b.fork("last")
    left = {name.split(".")[-2] for name, _ in b.model.named_parameters() if "lora_" in name}
    assert len(left) == len(adapters) + 1 and last.trainable
    assert all(torch.equal(a, torch.cat(row)) for a, row in zip(before, kept.logprobs(groups), strict=True))
    last.close()
    gc.collect()
    assert b.fork("again").trainable and kept.trainable


def test_two_threads_in_one_network_are_refused(tiny):
    """Each would compute as the other's fork: 58 of 60 log-probabilities were wrong, without an error."""
    b = tiny("lora")
    one, two = b.fork("one"), b.fork("two")
    for fork, shift in ((one, 0.1), (two, -0.1)):
        fork.load({name: value + shift for name, value in fork.state().items()})
    groups = [PrefixGroup((3, 4, 5, 6), [(7, 8, 9), (9, 8, 7)])]

    def values(fork):
        with torch.no_grad():
            return torch.cat([torch.cat(row) for row in fork.logprobs(groups)])

    expected = {fork: values(fork) for fork in (one, two)}
    assert not torch.allclose(expected[one], expected[two])
    wrong, refused, right = [], [], []
    barrier = threading.Barrier(2)

    def work(fork):
        barrier.wait()
        for _ in range(100):
            try:
                found = values(fork)
            except ModelError as error:
                refused.append(str(error))
                continue
            (right if torch.equal(found, expected[fork]) else wrong).append(fork.name)

    threads = [threading.Thread(target=work, args=(fork,)) for fork in (one, two)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong and right
    assert all("two threads use one network at once" in said for said in refused)
    with one.exclusive():
        stranger = threading.Thread(target=lambda: refused.extend(raised(lambda: values(two))))
        stranger.start()
        stranger.join()
        assert torch.equal(values(one), expected[one]), "its own thread may go on"
    assert "let them take turns, or load a backbone for each" in refused[-1]


def raised(call):
    try:
        call()
    except ModelError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_forks_are_not_made_closed_or_used_beside_a_pass(tiny, adapters):
    b = tiny(adapters)
    fork, other = b.fork("one"), b.fork("other")
    said = []

    def stranger():
        if adapters == "lora":  # a full copy is made of the starting model, which nobody uses
            said.extend(raised(lambda: b.fork("new")))
            said.extend(raised(other.close))
        said.extend(raised(lambda: fork.logprobs([PrefixGroup((3, 4), [(7, 8)])])))

    with fork.exclusive():
        thread = threading.Thread(target=stranger)
        thread.start()
        thread.join()
    assert len(said) == (3 if adapters == "lora" else 1) and all("one network at once" in one for one in said)
    b.fork("new"), other.close()  # alone, it may


def test_a_thread_that_makes_forks_spoils_no_other_s_numbers(tiny):
    b = tiny("lora")
    one = b.fork("one")
    one.load({name: value + 0.1 for name, value in one.state().items()})  # fresh adapters compute nothing
    group, wrong, stop = [PrefixGroup((3, 4, 5, 6), [(7, 8, 9)])], [], threading.Event()

    def values():
        with torch.no_grad():
            return one.logprobs(group)[0][0]

    expected = values()

    def reads():
        while not stop.is_set():
            try:
                found = values()
            except ModelError:
                continue
            if not torch.equal(found, expected):
                wrong.append(found)

    thread = threading.Thread(target=reads)
    thread.start()
    made, end = 0, time.monotonic() + 60
    while made < 8 and time.monotonic() < end:
        try:
            b.fork(f"fork {made}")
            made += 1
        except ModelError:
            time.sleep(0.001)  # on a busy machine the other may be amid its passes for long
    stop.set()
    thread.join()
    assert not wrong and made
