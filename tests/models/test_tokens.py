"""Where a text begins and ends, in tokens: what follows a prompt is encoded as the end of the whole, decoded as such,
and holds no token that is no text, over the tokenizers that people use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

import rrm
from rrm.core.errors import ModelError, Notice
from rrm.core.records import Case, Group, Outcome
from rrm.loop.reopen import reward_of
from rrm.models.agent import TextAgent, reference_logprobs, tokens_of
from rrm.models.backbone import Backbone
from rrm.models.chat import Chat, stops_of
from rrm.models.tokens import Tokens
from tests.models.conftest import tokenizer as tokenizer_of_words
from tests.models.tokenizers_made import CHATML, MADE, bytelevel, made
from tests.toy import SMALL, task

NAMES = [*MADE]
WORDS = st.sampled_from(["The", " better", " one is", " A", "B", "yes", " 12", "+", "\n", "\n\n", " ", "  ", ":", "ï"])
PLAIN = st.lists(WORDS, max_size=8).map("".join)
SPELLED = ["<|im_end|>", "</s>", "[/INST]", "<end_of_turn>", "<|endoftext|>", "<s>", "<|im_start|>", "<think>"]
HOSTILE = st.lists(st.one_of(WORDS, st.sampled_from(SPELLED), st.text(max_size=3)), max_size=8).map("".join)


@settings(deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(prompt=PLAIN, text=PLAIN)
def test_prompt_and_text_are_the_whole(name: str, prompt: str, text: str) -> None:
    """The ids of a prompt and of what follows it are those of the whole, wherever the tokenizer has a border there; and
    they are decoded to the whole in any case."""
    chat = Chat(name, made(name))
    tokens = Tokens(made(name))
    head, whole = tokens.marked(prompt), tokens.marked(prompt + text)
    rest = tokens.after(prompt, text)
    if whole[: len(head)] == head:
        assert [*head, *rest] == whole
    decoded = made(name).decode([*head, *rest])
    assert decoded.removeprefix(" ") == made(name).decode(whole).removeprefix(" ")
    if chat.template:  # after the template's own words nothing merges but blanks
        shown = chat.tokens.text(chat.before(prompt), chat.tokens.after(chat.before(prompt), text))
        assert shown == text


@settings(deadline=None)
@pytest.mark.parametrize("name", [name for name in NAMES if MADE[name]().chat_template])
@given(prompt=PLAIN)
def test_a_rendered_prompt_is_transformers_own(name: str, prompt: str) -> None:
    turns = [{"role": "user", "content": prompt}]
    text = made(name).apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert [*Chat(name, made(name)).render(prompt)] == made(name)(text, add_special_tokens=False)["input_ids"]


@settings(deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(prompt=HOSTILE, text=HOSTILE)
def test_no_text_writes_what_is_no_text(name: str, prompt: str, text: str) -> None:
    """What an agent wrote cannot end a turn, nor begin one: not in a prompt, and not as an outcome."""
    chat = Chat(name, made(name))
    structural = chat.tokens.structural.keys()
    own = [token for token in chat.render("case") if token in structural]
    assert [token for token in chat.render(prompt or "case") if token in structural] == own
    ids = chat.tokens.after(chat.before("case"), text)
    assert not structural & {*ids}
    assert chat.tokens.text(chat.before("case"), ids) == text


@pytest.mark.parametrize(("name", "answer"), [("llama2", "A"), ("zephyr", "A"), ("gemma", "A"), ("qwen", "A")])
def test_a_judge_scores_the_token_that_would_come(name: str, answer: str) -> None:
    """`A` behind a prompt is `A`, not the `▁A` that a tokenizer makes of it alone."""
    chat = Chat(name, made(name))
    (token,) = chat.tokens.after(chat.before("Which?"), answer)
    assert made(name).convert_ids_to_tokens(token) == "A"


def test_all_tokens_that_end_an_outcome() -> None:
    """What the template ends a turn with, the tokenizer's end-of-text, and what the model's own folder names."""
    chat = Chat("qwen", made("qwen, unmarked"), stops=(5,))
    end, text = made("qwen, unmarked").convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert chat.eos_id == end and chat.ends == {end, text, 5}
    assert chat.fingerprint()["ends"] == [end, text, 5]


BLOCKS = CHATML.replace("m['content']", "m['content'][0]['text']")
LOST = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
TWICE = CHATML.replace("m['content']", "m['content'] + m['content']")
LOUD = CHATML.replace("m['content']", "m['content'] | upper")
QUOTED = CHATML.replace("m['content']", "(m['content'] | tojson)")


def test_a_template_of_blocks_is_given_blocks() -> None:
    one, other = (Chat("x", bytelevel(["<|im_start|>", "<|im_end|>"], "<|im_end|>", t)) for t in (BLOCKS, CHATML))
    assert one.render("Is it?") == other.render("Is it?") != one.render("Is it not?")


@pytest.mark.parametrize(
    ("template", "said"),
    [(LOST, "leaves a user's text out"), (TWICE, "2 times"), (LOUD, "leaves a user's text out"), (QUOTED, "changes")],
)
def test_a_template_that_does_not_write_the_prompt_is_refused(template: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Chat("odd", bytelevel(["<|im_start|>", "<|im_end|>"], "<|im_end|>", template))


def test_variables_for_the_template() -> None:
    plain, without = (Chat("qwen", made("qwen"), options) for options in ({}, {"enable_thinking": False}))
    assert without.render("q") == (*plain.render("q"), *without.tokens.after("assistant\n", "<think>\n\n</think>\n\n"))
    assert plain.fingerprint()["rendered"] != without.fingerprint()["rendered"]
    with pytest.raises(ModelError, match=r"enable_thinkin'.*does not read it"):
        Chat("qwen", made("qwen"), {"enable_thinkin": False})
    with pytest.raises(ModelError, match="is not there"):
        Chat("gpt2", made("gpt2"), {"enable_thinking": False})


RAISING = ["{{ 1 / 0 }}", "{% for i in range(10 ** 9) %}{% endfor %}", "{{ 'a'.index('b') }}", "{{ [].pop() }}",
           "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"]  # fmt: skip


@pytest.mark.parametrize("template", RAISING)
def test_a_template_that_raises_is_refused_whatever_it_raises(template: str) -> None:
    with pytest.raises(ModelError, match=r"'odd' cannot write a conversation of user: .*another chat_template"):
        Chat("odd", bytelevel(["<|im_start|>", "<|im_end|>"], "<|im_end|>", template + CHATML))


def test_several_templates_without_a_default_are_named() -> None:
    tokenizer = bytelevel(["<|im_start|>", "<|im_end|>"], "<|im_end|>", CHATML)
    want = Chat("x", tokenizer).render("q")
    tokenizer.chat_template = {"tool_use": LOST, "default": CHATML}
    assert Chat("x", tokenizer).render("q") == want
    tokenizer.chat_template = {"tool_use": LOST, "rag": CHATML}
    with pytest.raises(ModelError, match=r"several chat templates.*\(tool_use, rag\)"):
        Chat("x", tokenizer)


@pytest.mark.parametrize("name", ["qwen, unmarked", "qwen", "gemma"])
def test_a_text_may_spell_out_any_number_of_structural_tokens(name: str) -> None:
    tokens = Chat(name, made(name)).tokens
    text = "".join(f"one {spelled} is" for spelled in tokens.structural.values()) * 1000
    ids = tokens.after("Yes", text)
    assert not tokens.structural.keys() & {*ids} and tokens.text("Yes", ids) == text


def test_what_is_unknown_to_a_tokenizer_is_text_unless_it_writes_bytes() -> None:
    """GPT-2's "unknown" token is its end-of-text, which no text may write; a tokenizer of words writes its own."""
    assert Tokens(made("gpt2, as saved")).structural == Tokens(made("gpt2")).structural
    words = tokenizer_of_words()
    assert words.unk_token_id not in Tokens(words).structural
    assert Tokens(words).after("w3", "w4 what") == (4, words.unk_token_id)
    words.eos_token = words.unk_token
    with pytest.raises(ModelError, match="any unknown word would; set another eos_token"):
        _ = Chat("x", words).tokens


def test_a_word_of_the_template_s_program_is_text() -> None:
    """Fine-tunes add words, too; those that name a variable of the template were read letter by letter."""
    tokenizer = bytelevel(["<|im_start|>", "<|im_end|>", "content", "if"], "<|endoftext|>", CHATML, marked=False)
    chat = Chat("x", tokenizer)
    assert {*chat.tokens.structural.values()} == {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    turns = [{"role": "user", "content": "the content if"}]
    want = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert [*chat.render("the content if")] == tokenizer(want)["input_ids"]


def test_a_tokenizer_that_cannot_read_a_word_says_so() -> None:
    """Its words are those of another tokenizer, and it has no token for what it does not know; the library raises."""
    words = tokenizer_of_words()
    words.backend_tokenizer.model = models.WordLevel({"a": 0, "</s>": 2}, unk_token="[none]")
    with pytest.raises(ModelError, match=r"the tokenizer of 'x' cannot read all texts: .*the model was trained with"):
        _ = Chat("x", words).tokens


def test_what_a_model_thinks_aloud_is_text() -> None:
    """A token that was added without the mark, and does not stand where turns begin or end, is what models write: an
    outcome from elsewhere has it as one that was sampled has."""
    tokenizer = made("qwen, unmarked")
    chat = Chat("qwen", tokenizer)
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert chat.tokens.after(chat.before("q"), "<think>\nyes")[0] == think
    assert {*tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])} <= chat.tokens.structural.keys()


# --- in a model -----------------------------------------------------------------------------------------------


def network(tokenizer: Any, more: int = 0, says: dict[int, int] | None = None) -> Any:
    """A model whose next token hangs on the last one only: at random, or as `says` has it."""
    size = len(tokenizer) + more
    config = tf.LlamaConfig(
        hidden_size=size + -size % 4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4, vocab_size=size,
        max_position_embeddings=256, initializer_range=1e-6, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    model = tf.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, config.hidden_size))
        model.lm_head.weight.copy_(torch.randn(size, config.hidden_size))
        for now, then in (says or {}).items():
            model.lm_head.weight[then, now] += 50.0
    return model


def test_rows_that_fill_up_a_vocabulary_are_never_sampled() -> None:
    """Half of the logits stand for nothing: they were sampled and counted, and are in no text."""
    tokenizer = made("gpt2")
    b = Backbone("padded", network(tokenizer, more=len(tokenizer)), tokenizer, "full")
    (group,) = TextAgent(b, b.start, 40).sample([Case("The")], 8, "k")
    assert all(token < len(tokenizer) for o in group.outcomes for token in o.tokens)
    (row,) = TextAgent(b, b.start, 40).logprobs([group])
    for outcome, values in zip(group.outcomes, row, strict=True):
        torch.testing.assert_close(values, torch.tensor(outcome.logprobs), atol=1e-5, rtol=1e-5)


def test_what_ends_an_outcome_comes_before_a_text_that_stands_alone() -> None:
    """As the reward model asks it: it raised for any model with GPT-2's tokenizer."""
    for name in ("gpt2", "gpt2, as saved"):
        b = Backbone(name, network(made(name)), made(name), "full")
        ids = b.encode("The <|endoftext|> A")
        assert b.eos_id not in ids and b.decode(ids) == "The <|endoftext|> A"


@pytest.mark.parametrize("where", ["generation_config", "config"])
@pytest.mark.parametrize("odd", ["<eos>", 3.5, [[1]], True, -1, [-1, 10**12], None, []])
def test_odd_ends_are_refused_or_passed_over(where: str, odd: Any) -> None:
    model, tokenizer = network(made("gpt2")), made("gpt2")
    want = stops_of(model, tokenizer)
    object.__setattr__(getattr(model, where), "eos_token_id", odd)
    model.generation_config._from_model_config = False
    if odd in (-1, [-1, 10**12], None, []):  # no token at all: transformers never stops there, either
        assert stops_of(model, tokenizer) == want
    else:
        with pytest.raises(ModelError, match=rf"{where}.json has eos_token_id .* is no token id"):
            stops_of(model, tokenizer)


def test_nothing_that_was_sampled_is_hidden() -> None:
    """A special token in the middle of an outcome is in its tokens, so it is in its text."""
    tokenizer = made("qwen")
    start, a = tokenizer.convert_tokens_to_ids("<|im_start|>"), Tokens(tokenizer).plain("A")[0]
    newline = Tokens(tokenizer).plain("\n")[-1]
    says = {newline: start, start: a, a: tokenizer.eos_token_id}
    b = Backbone("odd", network(tokenizer, says=says), tokenizer, "full")
    (outcome,) = TextAgent(b, b.start, 5).sample([Case("q")], 1, "k", greedy=True)[0].outcomes
    assert (outcome.text, outcome.finished) == ("<|im_start|>A", True)


def test_the_blanks_around_an_outcome_are_kept_beside_its_text() -> None:
    tokenizer = made("llama2 without a template")
    ids = Tokens(tokenizer).after("The better", " one is\n")
    first = Tokens(tokenizer).plain("The")[-1]
    says = dict(zip((first, *ids), (*ids, tokenizer.eos_token_id), strict=True))
    b = Backbone("bigram", network(tokenizer, says=says), tokenizer, "full")
    (outcome,) = TextAgent(b, b.start, 12).sample([Case("The")], 1, "k", greedy=True)[0].outcomes
    assert (outcome.text, outcome.around, outcome.finished) == ("one is", (" ", "\n"), True)
    assert outcome.whole == " one is\n"


def test_an_outcome_from_elsewhere_is_encoded_behind_its_prompt() -> None:
    tokenizer = made("llama2")
    b = Backbone("llama2", network(tokenizer), tokenizer, "full")
    case = Case("Which?")
    ids = tokens_of(b, case, Outcome("A"))
    assert tokenizer.convert_ids_to_tokens(ids) == ["A", "</s>"]
    assert tokens_of(b, case, Outcome("A", (7, 8))) == (7, 8)


def test_outcomes_that_differ_in_their_blanks_alone_are_two() -> None:
    """What the starting model says of them is remembered by their ids: one had the other's log-probabilities."""
    b = Backbone("blanks", network(made("gpt2")), made("gpt2"), "full")
    pair = Outcome("A"), Outcome("A", around=("  ", "\n"))
    (own,) = TextAgent(b, b.start, 9).logprobs([Group(Case("q"), pair)])
    with b.remember():
        (kept,) = reference_logprobs(b, [Group(Case("q"), pair)])
    for one, other in zip(own, kept, strict=True):
        torch.testing.assert_close(one, other)
    sampled = Outcome("A", (5, 6), (-1.0, -2.0))
    assert sampled.id == replace(sampled, around=(" ", "")).id  # its ids say it


def test_what_a_model_cannot_tell_apart_is_said() -> None:
    """To a tokenizer of words all unknown words are one; a byte-level one knows them all."""
    words = Backbone.load("embedded-games").chat
    assert "'Nothing'" in words.unread(["Nothing here"]) and "100%" in words.unread(["Nothing here"])
    assert words.unread(["1 2 3"]) == ""
    assert Chat("gpt2", made("gpt2")).unread(["Nothing here 猫"]) == ""


def test_training_on_texts_that_the_model_cannot_read_is_said(tmp_path: Path) -> None:
    cases = rrm.Pool(tuple(Case(f"Unheard of {i}") for i in range(4)))
    with pytest.warns(Notice, match=r"toy: .* unknown to 'embedded' \('Unheard'"):
        rrm.train(task(cases=cases, settings=SMALL), Alternating(), "embedded", tmp_path / "run")


class Alternating:
    """A, B, A, B."""

    name = "alternating"
    asked = 0

    def judge(self, task: rrm.Task, pair: rrm.Pair) -> rrm.Judgement:
        self.asked += 1
        return rrm.Judgement(float(self.asked % 2))

    def recall(self, task: rrm.Task, judgement: rrm.Judgement) -> None:
        pass


def test_a_run_is_opened_again_with_its_template(tmp_path: Path) -> None:
    """The variables of the template stand in config.json, and another value is another run."""
    model = tmp_path / "model"
    network(made("qwen")).save_pretrained(model)
    made("qwen").save_pretrained(model)
    quick = task(settings=SMALL.model_copy(update={"steps": 1, "rounds": 1}))
    runs = [Backbone.load(str(model), template={"enable_thinking": on}) for on in (False, True)]
    rrm.train(quick, Alternating(), runs[0], tmp_path / "run")
    assert reward_of(tmp_path / "run", "toy").backbone.prompts == runs[0].prompts != runs[1].prompts
    with pytest.raises(rrm.RRMError, match=r"prompts\.template\.enable_thinking: false there, true now"):
        rrm.train(quick, Alternating(), Backbone.load(str(model), template={"enable_thinking": True}), tmp_path / "run")
