"""From prompts to token ids, and where an assistant's turn ends: all that depends on a chat template.

Well-known trainers wrote the beginning-of-text twice, used other templates for training than for use, or waited for an
end-of-text where the model ends its turns with another token. So both questions are answered here and nowhere else.

A template is asked once what it writes around a user's text, and whether that text is found in it as it is. Templates
of multimodal models iterate over blocks of content and write nothing of a plain text, without a word: every prompt
would be the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import TemplateError

from rrm.core.errors import ModelError
from rrm.core.records import digest
from rrm.models.folders import FOREIGN, Blaming, said
from rrm.models.tokens import Tokens

MARK = "Rrm0outcome"
"""Stands for an assistant's or a user's text while a template is looked at."""
RAISED = (TemplateError, *FOREIGN)
"""What a template may raise: it is a program."""
PROBES = ("Is 12 + 30 = 42?\n\n  Yes, or no: ", "<|im_end|> Übung</s> 猫 is a case.<eos>")
"""Prompts that tell tokenizers and templates apart: numbers, blanks, other scripts, special tokens spelled out."""


@dataclass(frozen=True)
class Chat:
    """A tokenizer, its chat template if it has one, and what ends an outcome.

    Parameters
    ----------
    options: variables for the template, such as enable_thinking.
    stops: tokens at which the model itself is known to stop (`GenerationConfig.eos_token_id`).
    vocabulary: how many logits the model gives; 0: as many as there are tokens.

    Raises `ModelError` for an option that the template does not read, a template that does not write a user's text
    exactly once and as it is, and if nothing ends an outcome.
    """

    name: str
    tokenizer: Any = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    stops: tuple[int, ...] = ()
    vocabulary: int = 0
    _looked_at: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_looked_at", self.tokenizer.chat_template)
        for option in self.options:
            if not re.search(rf"\b{re.escape(option)}\b", self.template):
                reads = "does not read it" if self.template else "is not there"
                raise ModelError(f"template option {option!r}: the chat template of {self.name!r} {reads}; drop it")
        if self.template:
            self._check()

    @cached_property
    def template(self) -> str:
        """The template's source; empty without one."""
        if not self.tokenizer.chat_template:
            return ""
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise ModelError(
                f"the tokenizer of {self.name!r} has several chat templates and none is its default "
                f"({', '.join(self.tokenizer.chat_template)}); set tokenizer.chat_template to the one you mean"
            ) from error

    @cached_property
    def eos_id(self) -> int:
        """The token that is put behind an outcome from elsewhere: what the template puts behind an assistant's text, or
        else end-of-text.

        They differ in many instruct models (Gemma's template ends turns with <end_of_turn>, its end-of-text is <eos>);
        one that is asked to stop at the wrong one rambles on to `max_tokens`.
        """
        if self.template:
            turns = [("user", "case"), ("assistant", MARK)]
            _, found, after = self._written(turns, False).rpartition(MARK)
            structural = self._texts(()).structural
            ids = self.tokenizer(after, add_special_tokens=False)["input_ids"] if found else []
            for token in ids:
                if token in structural:
                    return int(token)
        if self.tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer of {self.name!r} has no eos_token, so no outcome could end; set one")
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Any of these ends an outcome: many models were taught several (end of turn, end-of-text, end of message)."""
        text = self.tokenizer.eos_token_id
        return frozenset({self.eos_id, *self.stops, *([] if text is None else [text])})

    @cached_property
    def tokens(self) -> Tokens:
        """The tokenizer's texts."""
        tokens = self._texts(self.ends)
        if self.eos_id not in tokens.structural:
            raise ModelError(
                f"the tokenizer of {self.name!r} reads what it does not know as {self.tokenizer.unk_token!r}, which "
                "also ends an outcome, so any unknown word would; set another eos_token"
            )
        return tokens

    def _texts(self, ends: Collection[int]) -> Tokens:
        mend = "save the tokenizer that the model was trained with"
        with Blaming(f"the tokenizer of {self.name!r} cannot read all texts", mend):
            return Tokens(self.tokenizer, self._borders, self.vocabulary, ends)

    # --- prompts ---------------------------------------------------------------------------------

    def render(self, prompt: str) -> tuple[int, ...]:
        """A prompt's token ids; see `Backbone.render`.

        What a user's turn says is text: a special token that is spelled out in it (an assistant reads what another
        agent wrote) is read letter by letter, and so cannot end the turn or begin one of another role.
        """
        if self.tokenizer.chat_template is not self._looked_at:
            raise ModelError(
                f"the chat template of {self.name!r} was changed after it was loaded; make the backbone with that "
                "template: Backbone(name, model, tokenizer)"
            )
        ids = self._asked(prompt) if self.template else self._bare(prompt)
        if not ids:
            start = self.tokenizer.bos_token_id
            ids = [self.eos_id if start is None else start]  # something must predict the first token
        return tuple(ids)

    def before(self, prompt: str) -> str:
        """What stands before the answer to a prompt, as text: its end is what an answer's tokens may depend on."""
        return self._around[1] if self.template else prompt

    def _asked(self, prompt: str) -> list[int]:
        before, after = self._around
        said = self._trimmed(prompt)
        if not self.tokens.spells(said):
            ids = self.tokens.marked(before + said + after)
            if self._count(ids) == self._own:
                return ids
        closing = self.tokens.marked(after)
        if closing and closing[0] not in self.tokens.structural:  # as it follows a text: no blank before it
            head, whole = self.tokens.marked("\n"), self.tokens.marked("\n" + after)
            closing = whole[len(head) :] if whole[: len(head)] == head else closing
        return [*self.tokens.marked(before), *self.tokens.after(before, said), *closing]

    def _bare(self, prompt: str) -> list[int]:
        opening = self._cut(self.tokenizer("")["input_ids"])
        if self.tokens.spells(prompt):
            return [*opening, *self.tokens.plain(prompt)]
        ids = self._cut(self.tokenizer(prompt)["input_ids"])
        if self._count(ids) != self._count(opening):  # a word of its own, to a tokenizer of words
            return [*opening, *self.tokens.plain(prompt)]
        return ids

    def _cut(self, ids: list[int]) -> list[int]:
        """Without the end-of-text that some tokenizers put behind whatever they are given."""
        while ids and ids[-1] in self.ends and ids[-1] != self.tokenizer.bos_token_id:
            ids = ids[:-1]
        return ids

    def _count(self, ids: Sequence[int]) -> int:
        return sum(token in self.tokens.structural for token in ids)

    @cached_property
    def _own(self) -> int:
        """How many structural tokens the template itself writes."""
        before, after = self._around
        return self._count(self.tokens.marked(before + MARK + after))

    def unread(self, texts: Sequence[str]) -> str:
        """What of texts the model cannot tell apart, in words; empty if its tokenizer has tokens for all of it."""
        unknown = self.tokens.unknown(texts)
        if not unknown:
            return ""
        share = sum(unknown.values()) / sum(len(text.split()) for text in texts)
        some = ", ".join(repr(word[:20]) for word in sorted(unknown, key=lambda word: -unknown[word])[:3])
        return (
            f"{share:.0%} of the words of prompts are unknown to {self.name!r} ({some}): they all look the same to it; "
            "use a model that was made for such texts"
        )

    # --- the template ----------------------------------------------------------------------------

    @cached_property
    def _borders(self) -> str:
        """What the template writes around a user's turn and behind an assistant's."""
        if not self.template:
            return ""
        before, _, after = self._written([("user", MARK)], False).partition(MARK)
        ended = self._written([("user", "case"), ("assistant", MARK)], False).rpartition(MARK)
        return "\n".join([before, after, ended[2] if ended[1] else ""])

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What the template writes before and after a user's text, with the opening of the assistant's turn."""
        before, _, after = self._written([("user", MARK)], True).partition(MARK)
        return before, after

    @cached_property
    def _trims(self) -> tuple[bool, bool]:
        """Whether the template takes blanks off a text: (before, behind)."""
        padded = f" \n{MARK}\n "
        before, _, after = self._written([("user", padded)], True).partition(MARK)
        return not before.endswith(" \n"), not after.startswith("\n ")

    def _trimmed(self, prompt: str) -> str:
        left, right = self._trims
        prompt = prompt.lstrip() if left else prompt
        return prompt.rstrip() if right else prompt

    def _check(self) -> None:
        """Raise `ModelError` unless prompts are found in what the template writes, once and as they are."""
        where = f"the chat template of {self.name!r}"
        mend = "give its tokenizer another chat_template, or none"
        times = self._written([("user", MARK)], True).count(MARK)
        if times != 1:
            how = "leaves a user's text out" if not times else f"writes a user's text {times} times"
            raise ModelError(f"{where} {how}, so prompts could not be told apart or stood twice; {mend}")
        before, after = self._around
        for probe in PROBES:
            written = self._written([("user", probe)], True)
            if written != before + self._trimmed(probe) + after and "strftime_now" not in self.template:
                raise ModelError(f"{where} changes a user's text: of {probe!r} it makes {written!r}; {mend}")

    @cached_property
    def _blocks(self) -> bool:
        """Whether the template takes a content as blocks of text only."""
        found = []
        for content in (MARK, [{"type": "text", "text": MARK}]):
            try:
                found.append(MARK in self._apply([{"role": "user", "content": content}], True))
            except RAISED:  # said where it is used
                found.append(False)
        return found == [False, True]

    def _written(self, turns: Sequence[tuple[str, str]], opened: bool) -> str:
        """A conversation as the chat template writes it; `opened`: with the opening of the assistant's turn."""
        try:
            contents: list[dict[str, Any]] = [
                {"role": role, "content": [{"type": "text", "text": text}] if self._blocks else text}
                for role, text in turns
            ]
            return self._apply(contents, opened)
        except RAISED as error:
            roles = " and ".join(role for role, _ in turns)
            raise ModelError(
                f"the chat template of {self.name!r} cannot write a conversation of {roles}: {said(error)}; give its "
                "tokenizer another chat_template, or none"
            ) from error

    def _apply(self, turns: list[dict[str, Any]], opened: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened, **self.options)
        )

    # --- identity --------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """What becomes of a prompt and of a text, JSON-able: the same weights under another template are another run.

        rendered: a hash of the ids of two prompts; of the template itself where it writes the date, which is another
            each day.
        ends: the token that ends an outcome, the one that ends a text, and others that do.
        vocabulary: how many tokens there are.
        text: a hash of an outcome's ids, and of what they are decoded to.
        template: the variables that the template was given, if any.
        """
        dated = "strftime_now" in self.template
        ids = [self.tokens.plain(probe) for probe in PROBES]
        back = [self.tokenizer.decode(one, skip_special_tokens=True) for one in ids]
        text = self.tokenizer.eos_token_id
        options = [dict(self.options)] if self.options else []
        return {
            "rendered": digest(self.template, *options) if dated else digest([self.render(p) for p in PROBES]),
            "ends": [self.eos_id, text, *sorted(self.ends - {self.eos_id, text})],
            "vocabulary": len(self.tokenizer),
            "text": digest(ids, back),
        } | ({"template": options[0]} if options else {})


    def sha256(self) -> str:
        """Of all that the tokenizer is: what it serializes to (vocabulary, merges, normalization, added tokens), which
        of its tokens have a role, and its chat template. Without what it was last called with (padding, truncation)."""
        serial = serialized(self.tokenizer)
        roles = {role: str(token) for role, token in sorted(self.tokenizer.special_tokens_map.items())}
        whole = json.dumps({"tokenizer": serial, "roles": roles, "template": self.template}, sort_keys=True)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def serialized(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer as JSON: of a fast one its own serialization, of others its vocabulary's files and its tokens."""
    fast: Any = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(fast, "to_str"):
        found: dict[str, Any] = json.loads(fast.to_str())
        return {key: value for key, value in found.items() if key not in ("padding", "truncation")}
    with TemporaryDirectory(prefix="rrm-") as folder:
        with suppress(NotImplementedError, AttributeError):  # of one that has no other vocabulary than its tokens
            tokenizer.save_vocabulary(folder)
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}
    return {"kind": type(tokenizer).__name__, "files": files, "tokens": dict(sorted(tokenizer.get_vocab().items()))}


def stops_of(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens at which a model is known to stop: those that transformers' `generate` stops at, and of those that
    only its configuration names (which may be a default that nobody meant) those that are no words. Raises `ModelError`
    for what is no id."""
    found: list[int] = []
    added = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    known = {*added, *tokenizer.get_vocab().values()}
    generation = getattr(model, "generation_config", None)
    for config in (generation, model.config.get_text_config()):
        meant = config is generation and not getattr(config, "_from_model_config", True)
        ids = getattr(config, "eos_token_id", None)
        for one in ids if isinstance(ids, list | tuple) else [ids]:
            if one is None:
                continue
            if not isinstance(one, int) or isinstance(one, bool):
                where = "generation_config.json" if config is generation else "config.json"
                raise ModelError(f"the model's {where} has eos_token_id {ids!r}; {one!r} is no token id, set it right")
            if one in (known if meant else added):
                found.append(one)
    return tuple(dict.fromkeys(found))


def end_of_turn(name: str, tokenizer: Any) -> int:
    """The token that ends an outcome; see `Chat.eos_id`."""
    return Chat(name, tokenizer).eos_id


def render(name: str, tokenizer: Any, prompt: str, eos_id: int) -> tuple[int, ...]:
    """A prompt's token ids; see `Chat.render`. eos_id: one more token that ends an outcome."""
    return Chat(name, tokenizer, stops=(eos_id,)).render(prompt)
