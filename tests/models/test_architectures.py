"""Other people's architectures, made small from their configurations with random weights: each either scores, samples
and trains exactly as if nothing were packed, or is refused with the reason. docs/architectures.md has all of them."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from rrm.core.errors import ModelError
from rrm.core.records import Case, Group, Outcome
from rrm.core.settings import Settings
from rrm.models import verification
from rrm.models.agent import TextAgent
from rrm.models.attention import GroupLayer, attend_packed
from rrm.models.backbone import Backbone
from rrm.models.fork import Fork
from rrm.models.miniature import shrink, small_copy, spread
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.probing import probe
from rrm.models.reward import TextRewardModel
from rrm.models.sampling import sample
from rrm.models.verification import TOLERANCE, error, examine, plain
from tests.models.conftest import VOCABULARY, four_steps, network, tokenizer

ROOT = Path(__file__).parents[2]
SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=VOCABULARY, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=2,
)  # fmt: skip
NO_WINDOW = SHAPE | {"sliding_window": None}
GEMMA = SHAPE | {"head_dim": 8, "query_pre_attn_scalar": 8}
EXPERTS = SHAPE | {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MLA = SHAPE | dict(
    num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
    first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=10,
)  # fmt: skip
LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 48,
}  # fmt: skip
KINDS = ["sliding_attention", "full_attention"]
CONFIGS: dict[str, Any] = {
    "gpt2": lambda: tf.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=256, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**{k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}),
    "qwen2": lambda: tf.Qwen2Config(**SHAPE),
    "qwen3": lambda: tf.Qwen3Config(**SHAPE, head_dim=8),
    "gemma": lambda: tf.GemmaConfig(**SHAPE, head_dim=8),
    "mistral": lambda: tf.MistralConfig(**NO_WINDOW),
    "phi": lambda: tf.PhiConfig(**SHAPE),
    "phi3": lambda: tf.Phi3Config(**NO_WINDOW),
    "olmo2": lambda: tf.Olmo2Config(**SHAPE),
    "afmoe, which views what attention gives": lambda: shrink(tf.AfmoeConfig()),
    "granite with scaled logits": lambda: tf.GraniteConfig(**SHAPE, logits_scaling=4.0),
    "opt of two widths": lambda: tf.OPTConfig(
        hidden_size=32, word_embed_proj_dim=16, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        do_layer_norm_before=False, vocab_size=VOCABULARY, max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
        pad_token_id=2,
    ),
    "deepseek of narrow values": lambda: tf.DeepseekV3Config(**MLA),
}  # fmt: skip
WINDOWED: dict[str, Any] = {
    "mistral": lambda: tf.MistralConfig(**SHAPE, sliding_window=16),
    "gemma2": lambda: tf.Gemma2Config(**GEMMA, sliding_window=16, layer_types=KINDS, final_logit_softcapping=5.0),
    "gemma3": lambda: tf.Gemma3TextConfig(**GEMMA, sliding_window=16, layer_types=KINDS),
    "gpt_oss": lambda: tf.GptOssConfig(**EXPERTS, head_dim=8, sliding_window=16, layer_types=KINDS),
    "phi3": lambda: tf.Phi3Config(**SHAPE, sliding_window=16),
    "qwen2": lambda: tf.Qwen2Config(**SHAPE, sliding_window=16, use_sliding_window=True, layer_types=KINDS),
    "cohere2": lambda: tf.Cohere2Config(**SHAPE, sliding_window=16, layer_types=KINDS, logit_scale=1.0),
}


def model(config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spread(tf.AutoModelForCausalLM.from_config(config), seed)


def backbone(config: Any, adapters: Any = "lora") -> Backbone:
    return Backbone(config.model_type, model(config), tokenizer(), adapters)


def exact(b: Backbone, lengths: tuple[int, int] = (5, 2), own: int = 20) -> None:
    """Packed scores and sampled log-probabilities are those of plain passes, for prefixes of two lengths."""
    prefixes = [[(3 + 7 * i) % VOCABULARY for i in range(n)] for n in lengths]
    segments = [(11, 4, 30, 2), (5,), (7, 7, 2), tuple(range(6, 6 + own))]
    with torch.no_grad():
        for width in (None, 4):
            found = b.start.logprobs([PrefixGroup(p, segments) for p in prefixes], width=width)
            for prefix, row in zip(prefixes, found, strict=True):
                for segment, value in zip(segments, row, strict=True):
                    assert error(value, plain(b, prefix, segment)) <= TOLERANCE
    for prefix, outcomes in zip(prefixes, sample(b.start, prefixes, 3, 6, 1.0, ["a", "b"], ()), strict=True):
        for tokens, kept, _ in outcomes:
            assert error(torch.tensor(kept), plain(b, prefix, tokens)) <= TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_it_scores_and_samples_exactly(name: str) -> None:
    exact(backbone(CONFIGS[name]()))


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("lengths", [(5, 2), (15, 9), (40, 23)])
def test_it_is_exact_within_and_beyond_its_window(name: str, lengths: tuple[int, int]) -> None:
    b = backbone(WINDOWED[name]())
    assert b.architecture.window == 16 and b.limit == 256
    exact(b, lengths)


@pytest.mark.parametrize("name", WINDOWED)
def test_joined_caches_keep_to_the_window(name: str) -> None:
    b = backbone(WINDOWED[name]())
    b.engine = replace(b.engine, groups=False)
    exact(b, (40, 23))


@pytest.mark.parametrize("adapters", ["lora", "full"])
@pytest.mark.parametrize("name", [*CONFIGS, "gemma2", "gpt_oss"])
def test_it_trains(name: str, adapters: str) -> None:
    b = backbone({**WINDOWED, **CONFIGS}[name](), adapters)
    agent = TextAgent(b, b.fork("agent"), 8)
    groups = [Group(Case("w5 w6"), (Outcome("w7 w8"), Outcome("w9")))]
    values = four_steps(agent, groups)
    assert values[-1] < values[0] - 0.1, values


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "cohere2"])
def test_gradients_of_packed_rows_are_those_of_plain_ones(name: str) -> None:
    """Also through caps, sinks and a head of the model's own."""
    b = backbone(WINDOWED[name](), "full")
    one, two = b.fork("one"), b.fork("two")
    prefix, segments = list(range(3, 22)), [(5, 9, 2), (11, 4)]
    sum(v.sum() for v in one.logprobs([PrefixGroup(prefix, segments)], width=2)[0]).backward()  # type: ignore[union-attr]
    for segment in segments:
        logits = two.network(input_ids=torch.tensor([[*prefix, *segment]])).logits[0].log_softmax(-1)
        logits[len(prefix) - 1 : -1].gather(1, torch.tensor(segment)[:, None]).sum().backward()
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None and q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, atol=1e-3, rtol=1e-3)


def test_attention_that_is_written_out_caps_and_sinks_as_the_models_own() -> None:
    """What packed rows in bfloat16 go through, here in float32 against transformers' own."""
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as capped
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as sunk

    module = torch.nn.Module()
    module.num_key_value_groups, module.sinks = 2, torch.nn.Parameter(torch.randn(4))
    query, key, value = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 10)
    mask = torch.full((6, 6), -torch.inf).triu_(1)[None, None]
    found = attend_packed(module, query, key, value, mask, 0.5, softcap=2.0)[0]
    right = capped(module, query, key, value, mask, 0.0, 0.5, softcap=2.0)[0]
    torch.testing.assert_close(found, right)
    found = attend_packed(module, query, key, value, mask, 0.5, s_aux=module.sinks)[0]
    torch.testing.assert_close(found, sunk(module, query, key, value, mask, 0.5)[0])


@pytest.mark.parametrize("name", ["opt of two widths", "gemma2"])
def test_a_reward_model_reads_it_and_company_changes_no_score(name: str) -> None:
    """Hidden states are as wide as the output embedding, which OPT-350m's layers are not; and go beyond a window."""
    b = backbone({**WINDOWED, **CONFIGS}[name](), "full")
    reward = TextRewardModel(b, b.fork("reward"), Settings(heads=2))
    with torch.no_grad():
        for p in reward.parameters():
            p += 0.05
    case = Case(" ".join(f"w{3 + i}" for i in range(18)))
    one, two = Outcome("w5 w6 w7"), Outcome("w9")
    among = reward.raw_scores([Group(case, (one, two)), Group(Case("w4"), (two,))])[0]
    alone = reward.raw_scores([Group(case, (one,))])[0]
    torch.testing.assert_close(among[:1], alone, atol=1e-5, rtol=1e-4)


# --- what is planted is found ------------------------------------------------------------------------------------


def positions_off(self: Fork, ids: Any, positions: Any, mask: Any, cache: Any = None) -> Any:
    return RUN(self, ids, torch.where(positions > 1, positions + 1, positions), mask, cache)


def masks_open(self: Fork, ids: Any, positions: Any, mask: Any, cache: Any = None) -> Any:
    if mask is not None and mask.dim() == 4:
        mask = torch.full(mask.shape[-2:], -torch.inf).triu_(1).expand(mask.shape)
    return RUN(self, ids, positions, mask, cache)


RUN = Fork.run


@pytest.mark.parametrize("fault", [positions_off, masks_open])
@pytest.mark.parametrize("name", ["gpt2", "mistral", "phi3", "opt of two widths", "deepseek of narrow values"])
def test_a_planted_fault_is_refused_at_load(name: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_KNOWN", {})
    monkeypatch.setattr(Fork, "run", fault)
    with pytest.raises(ModelError, match="share its pass"):
        backbone(CONFIGS[name]())


def test_weights_as_small_as_at_the_start_of_training_do_not_hide_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of standard deviation 1e-4, outcomes that see each other differ by less than rounding."""
    hiding = network(spread=1e-4)
    monkeypatch.setattr(verification, "_KNOWN", {})
    monkeypatch.setattr(Fork, "run", masks_open)
    with pytest.raises(ModelError, match="share its pass"):
        Backbone("small", hiding, tokenizer(), "full")


def test_without_a_small_copy_its_own_weights_must_be_able_to_show_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_in_small", lambda b: None)
    exact(Backbone("own", network(), tokenizer(), "full"))
    with pytest.raises(ModelError, match="too small for a mistake to show"):
        Backbone("small", network(spread=1e-3), tokenizer(), "full")
    windowed = backbone(WINDOWED["mistral"]())
    assert windowed.limit == 16  # what nobody looked at
    monkeypatch.setattr(Fork, "run", masks_open)
    with pytest.raises(ModelError, match="share its pass"):
        Backbone("own", network(), tokenizer(), "full")


def test_decoding_that_sees_padding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from rrm.models import sampling

    right = sampling._prefill
    monkeypatch.setattr(verification, "_KNOWN", {})
    monkeypatch.setattr(
        sampling, "_prefill", lambda *a: (lambda hidden, pad: (hidden, torch.zeros_like(pad)))(*right(*a))
    )
    with pytest.raises(ModelError, match="sampled together"):
        backbone(CONFIGS["qwen2"]())


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_that_is_not_kept_to_is_not_gone_beyond(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of another window, by one: then the window is the limit, and a longer sequence an error that says so."""
    from rrm.models.architecture import Architecture

    masks = Architecture.masks
    monkeypatch.setattr(verification, "_KNOWN", {})
    monkeypatch.setattr(
        Architecture, "masks", lambda self, m, p: masks(replace(self, window=self.window + 1), m, p)
    )
    b = backbone(WINDOWED[name]())
    assert b.limit == 16 and not b.engine.windows
    with pytest.raises(ModelError, match=r"17 tokens exceeds .*16.*window"):
        b.check_length(17)


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
PHI3 = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.05] * 48,
    "long_factor": [1.5 + i for i in range(48)],
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "gemma-2-2b": lambda: tf.Gemma2Config(
        hidden_size=2304, intermediate_size=9216, num_attention_heads=8, num_key_value_heads=4, head_dim=256,
        num_hidden_layers=26, query_pre_attn_scalar=256, sliding_window=4096, vocab_size=256000,
    ),
    "gpt-oss-20b": lambda: tf.GptOssConfig(num_hidden_layers=24, num_local_experts=32),
    "llama-3.2-1b": lambda: tf.LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_attention_heads=32, num_key_value_heads=8, num_hidden_layers=16,
        head_dim=64, vocab_size=128256, max_position_embeddings=131072, rope_parameters=LLAMA3,
    ),
    "phi-2": lambda: tf.PhiConfig(
        hidden_size=2560, intermediate_size=10240, num_attention_heads=32, num_hidden_layers=32,
        partial_rotary_factor=0.4,
    ),
    "phi-3-mini-128k": lambda: tf.Phi3Config(
        max_position_embeddings=131072, original_max_position_embeddings=4096, rope_parameters=PHI3,
        sliding_window=262144,
    ),
    "pythia-1b": lambda: tf.GPTNeoXConfig(
        hidden_size=2048, intermediate_size=8192, num_attention_heads=8, num_hidden_layers=16, rotary_pct=0.25
    ),
    "falcon-7b": lambda: tf.FalconConfig(hidden_size=4544, num_attention_heads=71, num_hidden_layers=32),
    "qwen2.5-0.5b": lambda: tf.Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2, num_hidden_layers=24,
        max_window_layers=21, sliding_window=32768, use_sliding_window=False, vocab_size=151936,
    ),
    "opt-350m": lambda: tf.OPTConfig(
        hidden_size=1024, word_embed_proj_dim=512, ffn_dim=4096, num_attention_heads=16, num_hidden_layers=24,
        do_layer_norm_before=False,
    ),
    "deepseek-v2-lite": lambda: tf.DeepseekV2Config(
        hidden_size=2048, num_hidden_layers=27, num_attention_heads=16, num_key_value_heads=16, q_lora_rank=None,
        kv_lora_rank=512, n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6, moe_intermediate_size=1408,
    ),
    "mistral-7b-v0.1": lambda: tf.MistralConfig(num_hidden_layers=32),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_can_be_made_small_and_are_exact(name: str) -> None:
    """Settings as they are on the Hub, of which the defaults of a class say little."""
    config = PUBLISHED[name]()
    kind = tf.AutoModelForCausalLM._model_mapping[type(config)]
    b = Backbone(name, small_copy(kind, config), tokenizer(), "full", verified=False)
    engine = examine(b)
    slides = name in {"gemma-2-2b", "gpt-oss-20b", "mistral-7b-v0.1", "phi-3-mini-128k"}
    assert engine.windows and b.architecture.window == (8 if slides else None)


@pytest.mark.parametrize("name", ["short", "keys of other layers", "long enough"])
def test_what_cannot_be_timed_stays_in_float32(name: str) -> None:
    """The probe raised, and with it every run that asked for the better precision."""
    config = shrink(tf.Gemma3nTextConfig() if name.startswith("keys") else tf.LlamaConfig())
    config.max_position_embeddings = 128 if name == "short" else 512
    b = backbone(config)
    precision, seconds = probe(b)
    assert bool(seconds) == (name == "long enough") and (seconds or precision == Precision())


# --- limits and refusals -----------------------------------------------------------------------------------------


def test_positions_that_depend_on_the_length_of_the_pass_are_the_limit() -> None:
    """Beyond the border transformers turns all positions otherwise: by then decoding has keys of the other kind."""
    b = backbone(tf.Phi3Config(**NO_WINDOW, rope_parameters=LONG, original_max_position_embeddings=48))
    assert b.limit == 48
    exact(b, (40, 23), 8)
    with pytest.raises(ModelError, match=r"49 tokens exceeds .*48.*longrope"):
        b.check_length(49)
    prefix, tail = [(3 + 7 * i) % VOCABULARY for i in range(46)], [5, 9]
    short, long = plain(b, prefix, tail), plain(b, prefix, [*tail, 8])[:2]
    assert (short - long).abs().max() > 0.01  # why: a token's probability by what comes after it


def test_dynamic_positions_are_exact_up_to_the_context() -> None:
    b = backbone(tf.LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}))
    assert b.limit == 256
    exact(b, (236, 100))
    exact(b)


REFUSED: dict[str, tuple[Any, str]] = {
    "chunked": (
        lambda: tf.Qwen2Config(**SHAPE, layer_types=["chunked_attention", "full_attention"]),
        "chunked_attention",
    ),
    "linear": (lambda: tf.Qwen3NextConfig(**SHAPE), "linear_attention"),
    "recurrent": (lambda: shrink(tf.MambaConfig()), "linear_attention"),
    "bloom": (lambda: shrink(tf.BloomConfig()), "ALiBi"),
    "mpt": (lambda: shrink(tf.MptConfig()), "ALiBi"),
    "falcon-rw": (
        lambda: shrink(tf.FalconConfig(alibi=True, multi_query=False, parallel_attn=False)),
        "ALiBi",
    ),
    "bart": (lambda: shrink(tf.BartConfig(is_decoder=True)), "4-D masks and positions"),
    "roberta": (lambda: shrink(tf.XLMConfig(is_decoder=True)), "4-D masks and positions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_give_wrong_numbers_is_refused_by_name(name: str) -> None:
    config, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        backbone(config())


def test_what_is_no_causal_model_of_text_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A raw error of reading it is a ModelError that quotes it."""
    headless = network()
    headless.get_output_embeddings = lambda: None  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="no output embedding"):
        Backbone("headless", headless, tokenizer(), "full")
    odd = network()
    monkeypatch.setattr(type(odd.config), "num_hidden_layers", property(lambda self: len(None)), raising=False)
    with pytest.raises(ModelError, match=r"'odd' .*not laid out as a causal language model.*NoneType"):
        Backbone("odd", odd, tokenizer(), "full")


# --- the engine --------------------------------------------------------------------------------------------------


def test_a_cache_is_counted_as_it_is() -> None:
    """Also where values are narrower than keys, or the cache holds something smaller than either."""
    for config in (CONFIGS["qwen2"](), CONFIGS["deepseek of narrow values"]()):
        b = backbone(config)
        cache = tf.Cache(layer_class_to_replicate=GroupLayer)
        b.start.run(torch.tensor([[5]]), torch.tensor([[0]]), None, cache)
        assert b.engine.kept == sum(x.keys.numel() + x.values.numel() for x in cache.layers)
    assert backbone(CONFIGS["qwen2"]()).engine.kept == 2 * 2 * 2 * 8  # layers, keys and values, heads, width


def test_a_model_loads_from_a_folder_also_where_transformers_has_no_sdpa_for_it(tmp_path: Path) -> None:
    model(WINDOWED["gemma2"]()).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    exact(Backbone.load(str(tmp_path)), (20, 9))


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_experts_are_trained_or_it_is_said_and_company_changes_nothing(name: str) -> None:
    kind = {"mixtral": tf.MixtralConfig, "qwen3_moe": tf.Qwen3MoeConfig, "gpt_oss": tf.GptOssConfig}[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        b = Backbone(name, model(shrink(kind(**EXPERTS, head_dim=8))), tokenizer(), "lora")
        fork = b.fork("agent")
    adapted = any("experts" in key for key in fork.trainable)
    says = r"experts of .* \d+% of its weights.* adapters='full'"
    assert adapted != any(re.search(says, str(w.message)) for w in said)
    with torch.no_grad():
        for p in fork.parameters():
            p += 0.02
        alone = fork.logprobs([PrefixGroup([3, 4, 5], [(7, 8, 9)])])[0][0]
        crowd = [PrefixGroup([n, 4, 5], [(n, 8, 9)] * 3) for n in range(6, 30)]
        among = fork.logprobs([*crowd, PrefixGroup([3, 4, 5], [(7, 8, 9)])])[-1][0]
        start = b.start.logprobs([PrefixGroup([3, 4, 5], [(7, 8, 9)])])[0][0]
    assert error(among, alone) <= TOLERANCE and error(alone, start) > 0.01  # the fork moved


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep() -> Any:
    spec = importlib.util.spec_from_file_location("architectures", ROOT / "scripts" / "architectures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architectures"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def told() -> dict[str, tuple[str, str]]:
    """The table in the docs: name -> its state, and how or why."""
    page = (ROOT / "docs" / "architectures.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (exact|refused|not tried|FAULT) \| ([^|]+) \|$", page, re.M)
    return {name: (state, how) for name, state, how in rows}


POPULAR = ["llama", "gemma2", "gpt_oss", "mamba", "phi3, long-RoPE", "opt, narrow embedding (OPT-350m)", "bart"]


@pytest.mark.parametrize("name", POPULAR)
def test_the_table_says_what_the_code_gives(sweep: Any, name: str) -> None:
    row = sweep.apart(name)
    assert told()[name] == (row.state, row.how)
    assert row.state != "exact" or (row.error <= TOLERANCE and row.planted > 10 * TOLERANCE), row


def test_the_table_is_whole_and_has_no_fault(sweep: Any) -> None:
    assert sorted(told()) == sweep.names() and not [n for n, (state, _) in told().items() if state == "FAULT"]
    assert f"transformers {tf.__version__}" in (ROOT / "docs" / "architectures.md").read_text()


@pytest.mark.slow
def test_every_fourth_row_of_the_table_says_what_the_code_gives(sweep: Any) -> None:
    """All of them take over a minute: `python scripts/architectures.py` writes the table anew."""
    names = sweep.names()[::4]
    rows = [sweep.apart(name) for name in names]
    assert {r.name: (r.state, r.how) for r in rows} == {name: told()[name] for name in names}
