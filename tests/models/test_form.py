"""Forms: what is sampled has its form, and the policy that is trained is the one that wrote it."""

import re

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrm import Case, Group, Outcome, Pool, Settings
from rrm.core.errors import ModelError
from rrm.exchange.trl import as_reward_func
from rrm.learning.text_maker import IMPROVERS
from rrm.models import form
from rrm.models.agent import TextAgent, prefix_groups, reference_logprobs
from rrm.models.backbone import Backbone
from rrm.models.probing import probe
from rrm.models.reward import TextRewardModel, trunk
from rrm.models.sampling import sample

VERDICT = r"(yes|no|N/A)"
LINES = r"sum: -?[0-9]{1,3}(\nso: [a-z]{2,8}){1,2}"


def letters(without: str = "") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges, but for two, so that a text can be written in several ways."""
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(without))
    words = {token: i for i, token in enumerate(["</s>", "<s>", *alphabet, "no", "ye"])}
    inner = Tokenizer(models.BPE(words, [("n", "o"), ("y", "e")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def lettered(adapters="full", without=""):
    """A backbone with that tokenizer, and five more logits than tokens, as models have that round their vocabulary."""
    tokenizer = letters(without)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer) + 5, max_position_embeddings=256, initializer_range=0.3, bos_token_id=1,
        eos_token_id=0, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone("letters", LlamaForCausalLM(config).eval(), tokenizer, adapters)


@pytest.fixture
def backbone():
    """A factory."""
    return lettered


CASES = [Case("is it?", form=VERDICT), Case("free"), Case("add up", form=LINES), Case("is that so?", form=VERDICT)]


@pytest.mark.parametrize("greedy", [False, True])
def test_outcomes_have_their_form(backbone, greedy):
    agent = TextAgent(backbone(), backbone().start, 48)
    groups = agent.sample(CASES, 6, "k", greedy=greedy)
    for group in groups:
        for outcome in group.outcomes:
            if group.case.form:
                assert outcome.finished and re.fullmatch(group.case.form, outcome.text), outcome.text
    assert greedy or len({o.text for o in groups[0].outcomes}) > 1


def test_the_company_and_the_temperature_change_no_form(backbone):
    b = backbone()
    agent = TextAgent(b, b.start, 48)
    together = agent.sample(CASES, 4, "k", temperature=0.5)
    for case, group in zip(CASES, together, strict=True):
        (alone,) = agent.sample([case], 4, "k", temperature=0.5)
        assert [o.tokens for o in alone.outcomes] == [o.tokens for o in group.outcomes]


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_logprobs_are_those_of_the_model_given_the_form(backbone, adapters):
    """Kept while decoding, computed again packed, and by hand from the plain model."""
    b = backbone(adapters)
    agent = TextAgent(b, b.fork("agent"), 48)
    with torch.no_grad():
        for p in agent.fork.parameters():
            p += 0.02
    groups = agent.sample(CASES, 5, "k")
    again = agent.logprobs(groups)
    for group, row in zip(groups, again, strict=True):
        for outcome, values in zip(group.outcomes, row, strict=True):
            torch.testing.assert_close(torch.tensor(outcome.logprobs), values, atol=1e-4, rtol=0)
    # The verdicts' probabilities sum to one over all ways to write them.
    ways = [("y", "e", "s"), ("ye", "s"), ("n", "o"), ("no",), ("N", "/", "A")]
    ids = [(*b.tokenizer.convert_tokens_to_ids(list(way)), b.eos_id) for way in ways]
    outcomes = tuple(Outcome("".join(way), tokens) for way, tokens in zip(ways, ids, strict=True))
    (row,) = agent.logprobs([Group(CASES[0], outcomes)])
    assert sum(v.sum().exp().item() for v in row) == pytest.approx(1, abs=1e-4)
    (free,) = agent.logprobs([Group(Case("is it?"), outcomes)])
    assert sum(v.sum().exp().item() for v in free) < 0.5


def test_what_is_forced_costs_nothing_and_teaches_nothing(backbone):
    b = backbone()
    agent = TextAgent(b, b.fork("agent"), 48)
    group = Group(Case("say it", form="sum: [0-9]"), (Outcome("sum: 7", (*b.encode("sum: 7"), b.eos_id)),))
    (row,) = agent.logprobs([group])
    (values,) = row
    assert values[:5].abs().max() < 1e-6 and values[5] < -0.5 and abs(values[6]) < 1e-6
    for part in agent.microbatches([group]):
        part.logprobs[:5].sum().backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-7 for p in agent.fork.parameters())


def test_an_outcome_that_leaves_its_form_is_scored_as_free_from_there(backbone):
    b = backbone()
    agent = TextAgent(b, b.start, 48)
    odd = tuple(Outcome(text, (*b.encode(text), b.eos_id)) for text in ("yes", "nope", "maybe"))
    (held,) = agent.logprobs([Group(Case("is it?", form=VERDICT), odd)])
    (free,) = agent.logprobs([Group(Case("is it?"), odd)])
    assert all(v.isfinite().all() for v in held)
    torch.testing.assert_close(held[2], free[2])  # left at once
    assert held[1][0] > free[1][0]  # "no", held to the form,
    torch.testing.assert_close(held[1][1:], free[1][1:])  # then left it


def test_all_tokens_that_write_the_form_share_its_probability(backbone):
    """Also of what is forced: a text from elsewhere may have come as "n", "o" where the tokenizer has one token."""
    b = backbone()
    ways = [(*b.tokenizer.convert_tokens_to_ids(way), b.eos_id) for way in (["n", "o"], ["no"])]
    (row,) = TextAgent(b, b.start, 8).logprobs(
        [Group(Case("is it?", form="no"), tuple(Outcome("no", way) for way in ways))]
    )
    assert all(v.isfinite().all() for v in row)
    assert sum(v.sum().exp().item() for v in row) == pytest.approx(1, abs=1e-5)


def test_a_probe_of_a_model_that_ends_with_a_late_token(backbone):
    """The probe's stub has fewer logits than the tokenizer has tokens."""
    b = backbone("lora")
    b.tokenizer.add_special_tokens({"eos_token": "<end>"})
    b.model.resize_token_embeddings(len(b.tokenizer) + 5)
    late = Backbone("late", b.model, b.tokenizer, "lora")
    assert late.eos_id > 255
    assert probe(late)[0].weights in ("float32", "bfloat16")
    (group,) = TextAgent(late, late.start, 8).sample([Case("x", form="no")], 3, "k")
    assert all(o.text == "no" for o in group.outcomes)


def test_special_tokens_spelled_out_can_be_written(backbone):
    b = backbone()
    (group,) = TextAgent(b, b.start, 8).sample([Case("x", form="a</s>b")], 2, "k")
    assert [b.decode(o.tokens[:-1]) for o in group.outcomes] == ["a</s>b"] * 2


@pytest.mark.parametrize("reward_trunk", ["frozen", "trained"])
def test_the_reward_model_reads_with_the_form(backbone, reward_trunk):
    """The surprise of a forced token is none; and the reference's log-probabilities, which a frozen trunk gives in
    passing, are those that are computed alone."""
    b = backbone("lora")
    settings = Settings(heads=2)
    reward = TextRewardModel(b, trunk(b, "reward", reward_trunk), settings)
    groups = TextAgent(b, b.start, 48).sample(CASES, 3, "k")
    alone = reference_logprobs(b, groups)
    with b.remember():
        reward.raw_scores(groups)
        for one, other in zip(alone, reference_logprobs(b, groups), strict=True):
            for x, y in zip(one, other, strict=True):
                torch.testing.assert_close(x, y, atol=1e-4, rtol=0)
    if reward.frozen:
        same = [Group(Case(g.case.prompt), g.outcomes) for g in groups]
        held, free = reward.features(groups), reward.features(same)
        assert not torch.allclose(held[0], free[0])
        torch.testing.assert_close(held[1], free[1])  # it had no form


@pytest.mark.parametrize("improver", IMPROVERS)
def test_an_agent_learns_within_its_form(backbone, improver):
    """Rewarded for "no", it says no; and all along KL is that of the policies given their form: 0 at the start."""
    b = backbone()
    agent, rows = TextAgent(b, b.fork("agent"), 8), []
    case = Case("is it?", form=VERDICT)

    def says_no(groups):
        return [torch.tensor([float(o.text == "no") for o in g.outcomes]) for g in groups]

    settings = Settings(steps=12, batch=8, group=8, lr=5e-3, kl=0.0, max_kl=1e9)
    before = sum(o.text == "no" for o in agent.sample([case], 64, "look")[0].outcomes)
    IMPROVERS[improver](agent, says_no, Pool((case,)), settings, "k", lambda step, m: rows.append(m))
    after = sum(o.text == "no" for o in agent.sample([case], 64, "look")[0].outcomes)
    assert before < 40 and after > before + 15
    assert abs(rows[0]["kl"]) < 1e-4


def test_hostile_forms(backbone):
    b = backbone()
    agent = TextAgent(b, b.start, 8)
    with pytest.raises(ModelError, match=r"no form(.|\n)*regular expression"):
        agent.sample([Case("x", form="(a")], 1, "k")
    few = backbone(without="0123456789")
    with pytest.raises(ModelError, match="cannot write the form"):
        TextAgent(few, few.start, 8).sample([Case("x", form="no: [0-9]+")], 2, "k")
    words = Backbone.load("embedded")  # its tokens are words, with a space between them that is no token's
    with pytest.raises(ModelError, match="cannot be held to a form"):
        TextAgent(words, words.start, 8).sample([Case("x", form="yes|no")], 1, "k")


def test_a_form_is_part_of_what_a_case_is():
    assert Case("x").id != Case("x", form="a").id
    assert Case("x").id == Case("x", form="").id


def test_parts_of_a_segment(backbone):
    """prefix_groups gives every outcome its own mask."""
    b = backbone()
    groups = TextAgent(b, b.start, 8).sample(CASES[:2], 2, "k")
    held = prefix_groups(b, groups)
    assert [m.shape[0] for m in held[0].allowed] == [len(o.tokens) for o in groups[0].outcomes]
    assert not held[1].allowed


def test_a_form_is_kept_by_sample(backbone):
    b = backbone()
    (row,) = sample(b.start, [b.render("x")], 3, 8, 1.0, ["k"], b.ends, forms=["(yes|no)"])
    assert {b.decode(tokens[:-1]) for tokens, _, ended in row} <= {"yes", "no"} and all(e for _, _, e in row)


def test_trl_is_told_the_form(backbone):
    """As a column of its dataset: then its trainer is given the reward that is given here."""
    b = backbone()
    reward = TextRewardModel(b, trunk(b, "r", "frozen"), Settings(heads=2))
    groups = TextAgent(b, b.start, 24).sample([CASES[0], CASES[3]], 3, "k")
    reward.normalize(torch.cat(reward.raw_scores(groups)))
    flat = [(g.case, o) for g in groups for o in g.outcomes]
    told = as_reward_func(reward)(
        [case.prompt for case, _ in flat], [o.text for _, o in flat], [o.tokens for _, o in flat],
        form=[case.form for case, _ in flat],
    )  # fmt: skip
    own = [value for score in reward.score(groups) for value in score.mean.tolist()]
    assert told == pytest.approx(own, abs=1e-4)


def test_forms_from_anybody_do_not_pile_up(backbone, monkeypatch):
    """Those used last stay compiled; after `forget` the masks are gone, and numbers are given anew, and rightly."""
    monkeypatch.setattr(form, "KEPT", 2)
    forms, logits = backbone().forms, torch.zeros(1, len(letters()) + 5)
    for text in ("a", "b", "a", "c", "a"):
        first = forms.guide(text).allowed()
        before = forms.restrict(logits.clone(), torch.tensor([first]))
    assert list(forms._matchers) == ["c", "a"] and len(forms._masks) == 4
    forms.forget()
    assert len(forms._masks) == len(forms._numbers) == 1
    other, again = forms.guide("c").allowed(), forms.guide("a").allowed()
    assert other == first and again != first
    assert torch.equal(forms.restrict(logits.clone(), torch.tensor([again])), before)
    ended = forms.restrict(logits.clone(), torch.tensor([forms.ending]))
    assert torch.isfinite(ended).nonzero().tolist() == [[0, forms.end]]
