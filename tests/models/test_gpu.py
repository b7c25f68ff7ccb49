"""The engine on a real GPU against the CPU. Skipped where there is none; `tests/models/test_device.py` pretends one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrm.core.records import Case, Group
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import rloo
from rrm.learning.fitting import fit_reward
from rrm.models import sampling
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.flexing import difference
from rrm.models.fusing import Fusion, unfuse
from rrm.models.head import WIDE
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.probing import probe
from rrm.models.reward import TextRewardModel, trunk
from tests.models.conftest import network, tokenizer
from tests.models.test_form import CASES as FORMED
from tests.models.test_form import lettered
from tests.models.test_parking import work
from tests.models.test_reward import groups_of, pairs
from tests.models.test_sample import KEYS, PREFIXES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SETTINGS = Settings(
    steps=2, batch=4, group=4, max_tokens=6, lr=1e-3, reward_lr=1e-3, heads=2, reward_batch=4, holdout=0
)


def both(adapters: str = "lora") -> list[Backbone]:
    """The same model on the CPU and on the GPU."""
    there = [network(), network().cuda()]
    return [Backbone("tiny", one, tokenizer(), adapters) for one in there]  # type: ignore[arg-type]


def moved(fork: object) -> None:
    """Away from the start, where a LoRA fork does nothing."""
    with torch.no_grad():
        for p in fork.parameters():  # type: ignore[attr-defined]
            p += 0.02


@pytest.mark.parametrize("adapters", ["full", "lora"])
@pytest.mark.parametrize("look", [1, 16])
def test_recorded_steps_are_the_cpus(adapters: str, look: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sampling.LOOK, "cuda", look)
    recorded, record = [], sampling.ReplayedSteps._record
    monkeypatch.setattr(sampling.ReplayedSteps, "_record", lambda self: recorded.append(self) or record(self))
    found = []
    for backbone in both(adapters):
        fork = backbone.fork("agent")
        moved(fork)
        found.append(sampling.sample(fork, PREFIXES, 5, 60, 1.0, KEYS, (2,)))
    assert recorded
    same = 0
    for one, other in zip(*found, strict=True):
        for (a, p, _), (b, q, _) in zip(one, other, strict=True):
            same += a == b
            if a == b:
                torch.testing.assert_close(torch.tensor(p), torch.tensor(q), rtol=1e-3, atol=1e-3)
    assert same >= 18  # of 20: a last bit can turn a token, once in a long while


def test_what_is_kept_while_decoding_is_what_training_computes_in_bfloat16() -> None:
    backbone = Backbone("tiny", network().cuda(), tokenizer(), "lora")
    backbone.precision = Precision("bfloat16", "float32")
    agent = TextAgent(backbone, backbone.fork("agent"), 40)
    moved(agent.fork)
    groups = agent.sample([Case(f"w{i} w{i + 1}") for i in range(3, 11)], 4, "key")
    kept = torch.tensor([sum(o.logprobs) for g in groups for o in g.outcomes])
    again = torch.stack([v.sum() for row in agent.logprobs(groups) for v in row])
    lengths = torch.tensor([len(o.tokens) for g in groups for o in g.outcomes])
    assert ((kept - again).abs() / lengths).max() < 0.03  # nats a token; bfloat16 has 8 bits


def wide(device: str) -> Backbone:
    """A vocabulary that is large enough for its output embedding to be in bfloat16, and six hundred rows more."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, WIDE - 600)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=WIDE, max_position_embeddings=256, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Backbone("wide", LlamaForCausalLM(config).eval().to(device), named, "lora")
    backbone.precision = Precision("bfloat16", "bfloat16")
    assert backbone.precision.head == "bfloat16"
    return backbone


def test_a_wide_head_is_exact_there_in_decoding_training_and_gradients() -> None:
    """Where the CPU sharpens what is rough, the GPU adds up in float32 (`rrm.models.head.widens`)."""
    values, grads = [], []
    groups: list[Group] = []
    for device in ("cuda", "cpu"):
        backbone = wide(device)
        agent = TextAgent(backbone, backbone.fork("agent"), 30)
        moved(agent.fork)
        groups = groups or agent.sample([Case(f"w{i} w{i + 1}") for i in range(3, 9)], 4, "key")
        rows = agent.logprobs(groups, grad=True)
        values.append(torch.stack([v.sum() for row in rows for v in row]))
        values[-1].sum().backward()
        grads.append(torch.cat([p.grad.cpu().flatten() for p in agent.fork.parameters() if p.grad is not None]))
    kept = torch.tensor([sum(o.logprobs) for g in groups for o in g.outcomes])
    lengths = torch.tensor([len(o.tokens) for g in groups for o in g.outcomes])
    assert all(token < WIDE - 600 for g in groups for o in g.outcomes for token in o.tokens)
    assert ((kept - values[0]).abs() / lengths).mean() < 0.02
    assert ((values[1] - values[0]).abs() / lengths).mean() < 0.02
    assert torch.nn.functional.cosine_similarity(grads[0], grads[1], 0) > 0.98


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_training_is_the_cpus(adapters: str) -> None:
    states, scores = [], []
    for backbone in both(adapters):
        agent = TextAgent(backbone, backbone.fork("agent"), 6)

        def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
            return [torch.tensor([float(len(o.tokens) + i) for i, o in enumerate(g.outcomes)]) for g in groups]

        cases = Pool(tuple(Case(f"w{i} w{i + 1}") for i in range(3, 11)))
        rloo.improve(agent, judge, cases, SETTINGS, "key", lambda step, metrics: None)
        states.append(agent.state())
        settings = SETTINGS.model_copy(update={"reward_trunk": "frozen"})
        reward = TextRewardModel(backbone, trunk(backbone, "reward", "frozen"), settings)
        judged = pairs(12)
        fit_reward(reward, judged, settings, "fit")
        scores.append(torch.cat([s.mean for s in reward.score(groups_of(judged))]))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-2, atol=1e-2)


def test_a_form_is_held_on_a_gpu() -> None:
    made = lettered()
    there = Backbone("letters", made.model.cuda(), made.tokenizer, "full")
    agent = TextAgent(there, there.start, 48)
    groups = agent.sample(FORMED, 6, "k")
    for group, values in zip(groups, agent.logprobs(groups), strict=True):
        for outcome, value in zip(group.outcomes, values, strict=True):
            if outcome.finished and group.case.form:
                assert re.fullmatch(group.case.form, outcome.text)
            assert value.sum().item() == pytest.approx(sum(outcome.logprobs), abs=1e-3)


def test_the_probe_takes_bfloat16_and_capacity_is_the_gpus() -> None:
    backbone = both()[1]
    assert probe(backbone) == (Precision("bfloat16", "bfloat16"), {})
    assert backbone.capacity.rows == 4096 and backbone.capacity.training > 4096
    assert backbone.device.type == "cuda"


def test_flash_attention_by_spans_is_right_there() -> None:
    """In bfloat16, also where several heads share keys; and then no row has a mask."""
    for kv in (4, 1):
        backbone = Backbone("tiny", network(kv=kv, hidden=256).cuda(), tokenizer(), "lora")
        backbone.precision = Precision("bfloat16")
        assert difference(backbone, "spans") < 0.05 and backbone.spans


def test_what_is_fused_there_gives_what_the_networks_own_code_gives() -> None:
    """Norms, gates and rotations in kernels, and packed rows without a mask, forwards and backwards."""
    groups = [PrefixGroup([*range(3, 33)], [[*range(5, 5 + n)] for n in (9, 30, 3)]), PrefixGroup([4, 7], [[8, 9, 3]])]
    found = []
    for plain in (True, False):
        backbone = Backbone("tiny", network(hidden=256).cuda(), tokenizer(), "lora")
        backbone.precision = Precision("bfloat16")
        if plain:
            backbone._fusion = Plain()
            unfuse(backbone.model)  # by the passes that were tried with it
        fork = backbone.fork("agent")
        moved(fork)
        values = torch.cat([torch.cat(row) for row in fork.logprobs(groups)])
        own = [m for m in backbone.model.modules() if "forward" in vars(m)]
        assert not plain or not own
        if not plain:
            assert backbone.turned is not None and backbone.spans and len(own) == 7  # 5 norms, 2 gates
        values.sum().backward()
        grads = torch.cat([p.grad.flatten() for p in fork.parameters() if p.grad is not None])
        found.append((values.detach(), grads.cpu()))
    assert (found[0][0] - found[1][0]).abs().mean() < 0.05
    assert torch.nn.functional.cosine_similarity(found[0][1], found[1][1], 0) > 0.99


class Plain(Fusion):
    """Nothing fused, and dense masks."""

    def attends(self, backbone: object, how: str) -> bool:
        return False

    def turned(self, backbone: object) -> None:
        return None


def test_a_policy_step_repeats_to_the_bit_there() -> None:
    words = [f"w{i % 30 + 3} w{(7 * i) % 30 + 3} w{(11 * i) % 30 + 3}" for i in range(24)]
    states = []
    for _ in range(2):
        backbone = Backbone("tiny", network(hidden=256, layers=4).cuda(), tokenizer(), "lora")
        backbone.precision = Precision("bfloat16")
        agent = TextAgent(backbone, backbone.fork("agent"), 100)

        def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
            return [torch.tensor([float(len(o.tokens) % 7 + i) for i, o in enumerate(g.outcomes)]) for g in groups]

        settings = SETTINGS.model_copy(update={"batch": 24, "group": 8, "max_tokens": 100})
        rloo.improve(agent, judge, Pool(tuple(map(Case, words))), settings, "key", lambda step, metrics: None)
        states.append(agent.state())
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_forks_that_wait_on_the_host_change_no_bit(adapters: str) -> None:
    """In training, and in steps that are recorded (`rrm.models.replay`) of forks that take turns."""
    there = both(adapters)[1]
    there.parking.free = lambda: None
    apart = work(there, 2)
    cases, agents = [Case("w3 w4"), Case("w5")], [TextAgent(there, there.fork(name), 20) for name in ("one", "two")]
    for agent in agents:
        moved(agent.fork)
    alone = [agent.sample(cases, 2, "key") for agent in agents]
    there.parking.free = lambda: 1
    together = work(there, 2)
    assert all(torch.equal(apart[name], together[name]) for name in apart)
    assert [agent.sample(cases, 2, "key") for agent in agents] == alone
    one, two = ({p.device.type for p in agent.fork.parameters()} for agent in agents)
    assert (one, two) == ({"cpu"}, {"cuda"})


def test_flex_attention_is_right_there() -> None:
    """In bfloat16, with heads of a size that kernels take."""
    backbone = Backbone("tiny", network(hidden=128).cuda(), tokenizer(), "lora")
    assert difference(backbone, "flex") < 0.05
    backbone.precision = Precision("bfloat16")
    assert backbone.flexes
