"""The form of an outcome: a regular expression that sampling is held to (`Case.form`), token by token.

Where a case has a form, the policy is the model *given* the form: at every token its distribution over what may come
next, renormalized. So it is sampled from, so its log-probabilities are stored, and so they are computed again in
training and under the reference model. Well-known trainers guide the sampling only, and then differentiate another
policy than the one that wrote the outcomes; what the form forces gets a gradient, and a price in KL.

Which tokens may come next is llguidance's to say (Rust; derivatives of the expression over the vocabulary's trie). Such
a set is a mask; there are few different ones, so each is kept once, and a token carries the number of its mask. A
server, to which anybody's forms come, drops them after each pass (`Forms.forget`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rrm.core.errors import ModelError
from rrm.models.packing import FREE
from rrm.models.tokens import Tokens

_BITS = (torch.arange(256)[:, None] >> torch.arange(8) & 1).bool()
"""(256, 8): the bits of a byte."""
KEPT = 256
"""Most forms that are kept compiled: those used last."""


class Forms:
    """What may come next in an outcome: any token that stands for something, or what a form allows.

    Parameters
    ----------
    vocabulary: how many logits the model gives, which may be more than the tokenizer knows: rows that fill up a matrix.
        They are never sampled, and have no probability.
    end: the token that ends an outcome that is held to a form.
    """

    def __init__(self, name: str, tokens: Tokens, vocabulary: int, end: int) -> None:
        self.name, self.end = name, end
        self._tokenizer, self._vocabulary = tokens.tokenizer, vocabulary
        self._end, self._barred = 1 << end, 0
        for token in tokens.structural:  # no text, whatever they spell
            self._barred |= 1 << token
        nothing = torch.arange(vocabulary) >= tokens.known
        nothing[tokens.holes] = True
        self._nothing = nothing if bool(nothing.any()) else None
        self._kept: dict[tuple[str, torch.device], Tensor] = {}
        self.real: list[int] = (~nothing).nonzero()[:, 0].tolist()
        """The tokens that stand for something."""
        self._trie: Any = None
        self._matchers: dict[str, Any] = {}
        self._size = -(-vocabulary // 32) * 4  # bytes of a mask
        self._numbers: dict[bytes, int] = {}
        self._masks: list[bytes] = []
        self.forget()

    def guide(self, form: str) -> Guide:
        """A guide through one outcome, at its beginning. Raises `ModelError` if the form is no regular expression, or
        the tokenizer's tokens are not known as bytes."""
        matcher = self._matchers.pop(form, None) or self._compile(form)
        self._matchers[form] = matcher  # the last in order is the last that was used
        if len(self._matchers) > KEPT:
            del self._matchers[next(iter(self._matchers))]
        return Guide(self, form, matcher.deep_copy())

    def forget(self) -> None:
        """Drop the masks. Numbers that were given out before mean nothing afterwards, so only where nobody has any."""
        self._numbers = {b"\xff" * self._size: FREE}
        self._masks = list(self._numbers)

    def allowed(self, form: str, tokens: Sequence[int]) -> Tensor:
        """(tokens,) numbers of masks: what could have come instead of each token of an outcome. An outcome from
        elsewhere may break the form: from there on, everything."""
        guide = self.guide(form)
        numbers = []
        for token in tokens:
            number = guide.allowed()
            numbers.append(number if guide.take(token) else FREE)
        return torch.tensor(numbers)

    def number(self, mask: bytes) -> int:
        """The number of a mask, a bit for each token; a new one if it was not there yet."""
        mask = mask[: self._size]
        if mask not in self._numbers:
            self._numbers[mask] = len(self._masks)
            self._masks.append(mask)
        return self._numbers[mask]

    def text_only(self, mask: bytes, ending: bool) -> bytes:
        """The mask without what is no text: a token that ends a turn may be spelled as the form allows. `ending`: but
        for the end."""
        kept = int.from_bytes(mask, "little") & ~(self._barred & ~self._end if ending else self._barred)
        return kept.to_bytes(len(mask), "little")

    @property
    def ending(self) -> int:
        """The number of the mask that allows the end and nothing else."""
        mask = bytearray(self._size)
        mask[self.end // 8] = 1 << self.end % 8
        return self.number(bytes(mask))

    def restrict(self, logits: Tensor, allowed: Tensor | None) -> Tensor:
        """(tokens, vocabulary) logits, -inf where a token stands for nothing or a mask does not allow it; the same
        tensor, unless it has a gradient. allowed: (tokens,) the masks' numbers."""
        device, width = logits.device, logits.shape[1]
        fill = torch.Tensor.masked_fill if logits.requires_grad else torch.Tensor.masked_fill_
        if self._nothing is not None:
            nothing = self._nothing[:width]
            if logits.requires_grad:
                logits = fill(logits, self._on(f"nothing of {width}", nothing, device), -torch.inf)
            else:  # a few columns, not all
                columns = self._on(f"columns of {width}", nothing.nonzero()[:, 0], device)
                logits.index_fill_(1, columns, -torch.inf)
        if allowed is None or not bool((allowed != FREE).any()):
            return logits
        used, which = torch.unique(allowed, return_inverse=True)
        packed = torch.frombuffer(bytearray(b"".join(self._masks[i] for i in used.tolist())), dtype=torch.uint8)
        # To a GPU goes one bit for each token and mask; they are spread out, and given to their rows, over there.
        spread = self._on("bits", _BITS, device)[packed.view(len(used), -1).to(device).long()]
        bits = spread.flatten(1)[:, :width]
        return fill(logits, ~bits[which.to(device)], -torch.inf)

    def _on(self, name: str, tensor: Tensor, device: torch.device) -> Tensor:
        """A tensor on a device, copied once: a copy at every step would make a GPU wait."""
        if tensor.device == device:
            return tensor
        if (name, device) not in self._kept:
            with torch.inference_mode(False):  # it may be needed in training next
                self._kept[name, device] = tensor.to(device)
        return self._kept[name, device]

    def _compile(self, form: str) -> Any:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        if self._trie is None:
            try:
                self._trie = from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self.end)
            except ValueError as error:
                raise ModelError(
                    f"the tokenizer of {self.name!r} cannot be held to a form: {error}; use a byte-level or "
                    "SentencePiece tokenizer, or cases without a form"
                ) from error
        grammar = json.loads(LLMatcher.grammar_from_regex(form))
        for part in grammar["grammars"]:  # a forced text may be written in any tokens, not only the tokenizer's own
            part["lark_grammar"] = '%llguidance {"no_forcing": true}\n' + part["lark_grammar"]
        matcher = LLMatcher(self._trie, json.dumps(grammar), log_level=0)
        if matcher.is_error():
            said = matcher.get_error().strip()
            raise ModelError(f"{form!r} is no form: {said}; it is a regular expression in the syntax of Rust's regex")
        return matcher


class Guide:
    """Where one outcome is in its form."""

    def __init__(self, forms: Forms, form: str, matcher: Any) -> None:
        self.form = form
        self._forms, self._matcher = forms, matcher
        self._over = False  # ended, or left the form

    def allowed(self) -> int:
        """The number of the mask of the tokens that may come next."""
        if self._over:
            return FREE
        if self._matcher.is_stopped():  # nothing can follow but the end
            return self._forms.ending
        mask = self._forms.text_only(self._matcher.compute_bitmask(), self._matcher.is_accepting())
        if not any(mask):
            raise ModelError(f"the tokens of {self._forms.name!r} cannot write the form {self.form!r}")
        return self._forms.number(mask)

    def take(self, token: int) -> bool:
        """Go on by a token. False if it leaves the form, or ends too early; from there on anything may come."""
        if self._over:
            return True
        if token == self._forms.end:
            fits: bool = self._matcher.is_accepting()
        else:
            fits = not self._matcher.is_stopped() and self._matcher.try_consume_tokens([token]) == 1
        self._over = not fits or token == self._forms.end
        return fits
