"""Chat templates: applied once, in one place; what a prompt spells out is text; outcomes end where turns end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from rrm.core.errors import ModelError
from rrm.models.chat import Chat, end_of_turn, render
from rrm.models.tokens import Tokens

SPECIAL = ["<bos>", "<eos>", "<turn>", "<end>"]
BOS, EOS, TURN, END = range(4)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def chat(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Bytes and four special tokens; the beginning-of-text is added to whatever is encoded, as Llama's does; the
    end-of-text is not what ends a turn, as in Gemma."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, *letters])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevelDecoder()
    inner.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    inner.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    out = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")
    out.chat_template = template
    return out


CHAT = chat()
TOKENS = Tokens(CHAT, TEMPLATE)


def fingerprint(name: str, tokenizer: PreTrainedTokenizerFast, end: int) -> dict[str, object]:
    return Chat(name, tokenizer, stops=(end,)).fingerprint()


@given(st.text(max_size=40))
def test_a_prompt_is_what_the_template_makes_of_it(prompt: str) -> None:
    ids = render("chat", CHAT, prompt, END)
    turns = [{"role": "user", "content": prompt}]
    assert [*ids] == CHAT.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert ids.count(BOS) == 1 and ids.count(TURN) == 2 and ids.count(END) == 1
    assert CHAT.decode(ids) == f"<bos><turn>user\n{prompt}<end>\n<turn>assistant\n"


@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.text(max_size=5)), max_size=8).map("".join))
def test_special_tokens_that_are_spelled_out_are_text(text: str) -> None:
    """What one agent wrote is another's prompt: it must not be able to end the user's turn and speak as the system."""
    ids = render("chat", CHAT, text, END)
    assert ids.count(BOS) == 1 and ids.count(TURN) == 2 and ids.count(END) == 1 and EOS not in ids
    assert CHAT.decode(ids) == f"<bos><turn>user\n{text}<end>\n<turn>assistant\n"
    assert not {*TOKENS.plain(text)} & {BOS, EOS, TURN, END}
    assert CHAT.decode(TOKENS.plain(text)) == text


def test_outcomes_end_where_the_template_ends_a_turn() -> None:
    assert end_of_turn("chat", CHAT) == END != CHAT.eos_token_id
    assert end_of_turn("plain", chat(None)) == EOS
    unmarked = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert end_of_turn("unmarked", chat(unmarked)) == EOS
    silent = chat("{{ bos_token }}{{ messages[0]['content'] }}")  # leaves out what the assistant said
    assert end_of_turn("silent", silent) == EOS
    without = chat(None)
    without.eos_token = None
    with pytest.raises(ModelError, match="no eos_token"):
        end_of_turn("without", without)


def test_a_template_that_refuses_says_so() -> None:
    with pytest.raises(ModelError, match="cannot write a conversation of user: no users here"):
        render("strict", chat("{{ raise_exception('no users here') }}"), "hello", EOS)


def test_without_a_template_the_tokenizer_decides() -> None:
    assert render("plain", chat(None), "a", EOS) == (BOS, *TOKENS.plain("a"))
    assert render("plain", chat(None), "", EOS) == (BOS,)


def test_the_fingerprint_is_of_what_becomes_of_a_prompt() -> None:
    """Two templates that write the same are one; another template, another end, another split of texts are others."""
    base = fingerprint("chat", chat(), END)
    assert fingerprint("again", chat(), END) == base
    assert fingerprint("chat", chat(TEMPLATE + "{# a remark #}"), END) == base
    other = fingerprint("chat", chat(TEMPLATE.replace("assistant", "model")), END)
    assert {key for key in base if base[key] != other[key]} == {"rendered"}
    without = fingerprint("chat", chat(None), EOS)
    assert {key for key in base if base[key] != without[key]} == {"rendered", "ends"}
    more = chat()
    more.add_tokens(["case"])
    assert {key for key, value in fingerprint("chat", more, END).items() if base[key] != value} == {
        "rendered", "vocabulary", "text",
    }  # fmt: skip


def test_a_template_that_writes_the_date_is_the_same_tomorrow() -> None:
    dated = chat(TEMPLATE + "{{ strftime_now('%S %f') }}")
    assert fingerprint("chat", dated, END) == fingerprint("chat", dated, END)
    assert fingerprint("chat", dated, END) != fingerprint("chat", chat(), END)
