"""Between texts and token ids: a text is encoded where it stands, and no token in it is one that is no text.

A tokenizer that is given a text alone answers another question than a model is asked. SentencePiece puts a blank before
it (`A` becomes `▁A`, another token than the `A` that follows a prompt), merges run over the border between two texts,
and a token that ends a turn may be spelled out in what an agent wrote. So what follows a prompt is encoded as the end
of the whole, and decoded as such.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

TAIL = 64
"""Most characters before a text that are encoded with it: what stands farther away does not change its tokens."""
ANCHORS = ("\n", "a", ".", "0", " ")
"""What a text is encoded behind where the tokenizer merges it with what stands there."""
STRANGE = " ".join(chr(i) for i in range(0x180, 0x2FA00, 1021) if not 0xD800 <= i < 0xE000)
"""Characters of many scripts, some of none: only a tokenizer that falls back to bytes has tokens for all of them."""


class Tokens:
    """One tokenizer's texts.

    Parameters
    ----------
    borders: what its chat template writes where turns begin and end; empty without one.
    vocabulary: how many logits the model gives; it may be more than there are tokens.
    ends: more tokens that are no text: those that end an outcome.

    Attributes
    ----------
    structural: id -> how it is spelled: special tokens, those at the borders of turns (fine-tunes often add theirs
        without the mark "special"; but words are text), and those that end an outcome. What else was added is text,
        such as <think> without the mark.
    known: one more than the largest id that stands for anything; larger ones are rows that fill up a matrix.
    holes: ids below `known` that stand for nothing.
    """

    def __init__(self, tokenizer: Any, borders: str = "", vocabulary: int = 0, ends: Collection[int] = ()) -> None:
        self.tokenizer = tokenizer
        # What a text has is text. Of bytes all can be written: there "unknown" is another name of end-of-text (GPT-2).
        unknown = tokenizer.unk_token_id
        if unknown is not None and unknown not in self._split(STRANGE):
            unknown = None
        special = {*tokenizer.all_special_ids, *ends} - {unknown}
        self.structural: dict[int, str] = {}
        for token, added in tokenizer.added_tokens_decoder.items():
            if token == unknown:
                continue
            written = re.search(r"\W", added.content.strip()) and added.content in borders
            if added.special or token in special or written:
                self.structural[token] = added.content
        for token in special - {*self.structural}:
            self.structural[token] = str(tokenizer.convert_ids_to_tokens(token))
        used = {*tokenizer.get_vocab().values(), *tokenizer.added_tokens_decoder}
        self.known = 1 + max(used)
        self.holes = sorted({*range(min(self.known, vocabulary))} - used) if vocabulary else []
        self._spelled = [text for text in self.structural.values() if text]
        longer = [re.escape(text) for text in self._spelled if len(text) > 1]
        self._spellings = re.compile(f"(?={'|'.join(longer)})") if longer else None
        self._heads = lru_cache(1024)(lambda text: tuple(self.marked(text)))
        self._behind = lru_cache(1024)(lambda ids: str(self.tokenizer.decode([*ids], skip_special_tokens=False)))

    def marked(self, text: str) -> list[int]:
        """The ids of a text in which structural tokens that are spelled out are meant: what a template wrote."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def plain(self, text: str) -> list[int]:
        """The ids of a text that nothing precedes, none of them structural; letter by letter where it must be."""
        return [*self._rest([""], text)]

    def spells(self, text: str) -> bool:
        """Whether a structural token is spelled out in a text."""
        return any(one in text for one in self._spelled)

    def after(self, before: str, text: str) -> tuple[int, ...]:
        """The ids of a text that follows another: with those of `before` they are the ids of the whole, wherever the
        tokenizer has a border between the two, and are decoded to the whole in any case (but for blanks behind a token
        that takes them in, `AddedToken.rstrip`). None of them is structural.

        before: as a template wrote it: what it spells out is meant.
        """
        return self._rest([tail(before), *ANCHORS], text) if text else ()

    def _rest(self, befores: Sequence[str], text: str) -> tuple[int, ...]:
        """The ids of a text behind the first of these that the tokenizer keeps apart from it."""
        if not self.spells(text):
            for before in befores:
                if (rest := self._beyond(self._heads(before), self.marked(before + text))) is not None:
                    return rest
        ends = [max((b.rfind(one) + len(one) for one in self._spelled if one in b), default=0) for b in befores]
        for before in [b[end:] for b, end in zip(befores, ends, strict=True) if end < len(b)] + [""]:
            if (rest := self._beyond(tuple(self._split(before)), self._split(before + text))) is not None:
                return rest
        return self._pieces(befores, text)

    def _beyond(self, head: tuple[int, ...], whole: Sequence[int]) -> tuple[int, ...] | None:
        """What follows the head in the whole; None if a token reaches over the border, or is no text."""
        rest = tuple(whole[len(head) :])
        return None if tuple(whole[: len(head)]) != head or self.structural.keys() & {*rest} else rest

    def _split(self, text: str) -> list[int]:
        """The ids of a text, special tokens taken apart; what is structural without the mark may still be in it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _pieces(self, befores: Sequence[str], text: str) -> tuple[int, ...]:
        """The ids of a text that spells out what the tokenizer would not take apart: cut behind the first letter of
        each such token, or else in two, until it does."""
        if len(text) < 2:
            return tuple(token for token in self._split(text) if token not in self.structural)
        cuts = [m.start() + 1 for m in self._spellings.finditer(text)] if self._spellings else []
        cuts = cuts or [len(text) // 2]
        out = [*self._rest(befores, text[: cuts[0]])]
        for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
            out.extend(self._rest(ANCHORS, text[start:end]))
        return tuple(out)

    def text(self, before: str, ids: Sequence[int]) -> str:
        """What ids that follow `before` add to it, structural tokens spelled out: nothing sampled is hidden."""
        head = self._heads(tail(before))
        start, whole = self._behind(head), str(self.tokenizer.decode([*head, *ids], skip_special_tokens=False))
        if whole.startswith(start):
            return whole[len(start) :]
        return str(self.tokenizer.decode([*ids], skip_special_tokens=False))

    def unknown(self, texts: Sequence[str]) -> Mapping[str, int]:
        """How often each word of texts has something that the tokenizer has no token for: to the model all such words
        are one. Empty if it can write anything."""
        unk = self.tokenizer.unk_token_id
        found: dict[str, int] = {}
        if unk is None:
            return found
        for text in texts:
            if unk in self._split(text):
                for word in text.split():
                    if unk in self._split(word):
                        found[word] = found.get(word, 0) + 1
        return found


def tail(text: str) -> str:
    """The end of a text, from the beginning of a word."""
    if len(text) <= TAIL:
        return text
    begin = re.search(r"\s(?=\S)", text[-TAIL:])
    return text[-TAIL:][begin.end() :] if begin else text[-TAIL:]
