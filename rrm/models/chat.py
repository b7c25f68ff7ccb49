"""From prompts to token ids, and where an assistant's turn ends: all that depends on a chat template.

Well-known trainers wrote the beginning-of-text twice, used other templates for training than for use, or waited for an
end-of-text where the model ends its turns with another token. So both questions are answered here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from rrm.core.errors import ModelError
from rrm.core.records import digest

MARK = "outcome"
"""Stands for an assistant's or a user's text while a template is looked at."""


def end_of_turn(name: str, tokenizer: Any) -> int:
    """The token that ends an outcome: what the chat template puts behind an assistant's text, or else end-of-text.

    They differ in many instruct models (Gemma's template ends turns with <end_of_turn>, its end-of-text is <eos>); one
    that is asked to stop at the wrong one rambles on to `max_tokens`. Raises `ModelError` if nothing ends an outcome.
    """
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": "case"}, {"role": "assistant", "content": MARK}]
        _, found, after = _written(name, tokenizer, turns, False).rpartition(MARK)
        special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
        ids = tokenizer(after, add_special_tokens=False)["input_ids"] if found else []
        for token in ids:
            if token in special:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} has no eos_token, so no outcome could end; set one")
    return int(tokenizer.eos_token_id)


def render(name: str, tokenizer: Any, prompt: str, eos_id: int) -> tuple[int, ...]:
    """A prompt's token ids; see `Backbone.render`.

    What a user's turn says is text: a special token that is spelled out in it (an assistant reads what another agent
    wrote) is read letter by letter, and so cannot end the turn or begin one of another role.
    """
    if not tokenizer.chat_template:
        ids = tokenizer(prompt, add_special_tokens=True)["input_ids"]
        while ids and ids[-1] == eos_id and eos_id != tokenizer.bos_token_id:
            ids = ids[:-1]
    elif any(t.special and t.content in prompt for t in tokenizer.added_tokens_decoder.values()):
        before, _, after = _written(name, tokenizer, [{"role": "user", "content": MARK}], True).rpartition(MARK)
        ids = [*_encode(tokenizer, before), *plain(tokenizer, prompt), *_encode(tokenizer, after)]
    else:  # the template writes the beginning-of-text, if the model wants one
        ids = _encode(tokenizer, _written(name, tokenizer, [{"role": "user", "content": prompt}], True))
    if not ids:
        start = tokenizer.bos_token_id
        ids = [eos_id if start is None else start]  # something must predict the first token
    return tuple(ids)


PROBES = ("Is 12 + 30 = 42?\n\n  Yes, or no: ", "<|im_end|> Übung</s> 猫 is a case.<eos>")
"""Prompts that tell tokenizers and templates apart: numbers, blanks, other scripts, special tokens spelled out."""


def fingerprint(name: str, tokenizer: Any, eos_id: int) -> dict[str, Any]:
    """What becomes of a prompt and of a text, JSON-able: the same weights under another template are another run.

    rendered: a hash of the ids of two prompts; of the template itself where it writes the date, which is another each
        day.
    ends: the tokens that end an outcome, and a text.
    vocabulary: how many tokens there are.
    text: a hash of an outcome's ids, and of what they are decoded to.
    """
    template = tokenizer.chat_template
    dated = bool(template) and "strftime_now" in str(template)
    ids = [list(plain(tokenizer, probe)) for probe in PROBES]
    back = [tokenizer.decode(one, skip_special_tokens=True) for one in ids]
    return {
        "rendered": digest(str(template)) if dated else digest([render(name, tokenizer, p, eos_id) for p in PROBES]),
        "ends": [eos_id, tokenizer.eos_token_id],
        "vocabulary": len(tokenizer),
        "text": digest(ids, back),
    }


def plain(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text, in which nothing is a special token."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _written(name: str, tokenizer: Any, turns: list[dict[str, str]], opened: bool) -> str:
    """A conversation as the chat template writes it; `opened`: with the opening of the assistant's turn."""
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened)
    except TemplateError as error:
        roles = " and ".join(turn["role"] for turn in turns)
        raise ModelError(
            f"the chat template of {name!r} cannot write a conversation of {roles}: {error}; give its tokenizer "
            "another chat_template, or none"
        ) from error
    return text
