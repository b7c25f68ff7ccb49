"""The form of an outcome: a regular expression that sampling is held to (`Case.form`), token by token.

Where a case has a form, the policy is the model *given* the form: at every token its distribution over what may come
next, renormalized. So it is sampled from, so its log-probabilities are stored, and so they are computed again in
training and under the reference model. Well-known trainers guide the sampling only, and then differentiate another
policy than the one that wrote the outcomes; what the form forces gets a gradient, and a price in KL.

Which tokens may come next is llguidance's to say (Rust; derivatives of the expression over the vocabulary's trie).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rrm.models.checks import ModelError
from rrm.models.pack import FREE


class Forms:
    """The forms that outcomes are held to, for one tokenizer.

    Parameters
    ----------
    vocabulary: how many logits the model gives, which may be more than the tokenizer knows.
    end: the token that ends an outcome.
    """

    def __init__(self, name: str, tokenizer: Any, vocabulary: int, end: int) -> None:
        self.name, self.end = name, end
        self.words = -(-vocabulary // 32)
        self.ending = torch.zeros(self.words, dtype=torch.int32)  # the end and nothing else
        self.ending.view(torch.uint8)[end // 8] = 1 << end % 8
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._trie: Any = None
        self._matchers: dict[str, Any] = {}

    def guide(self, form: str) -> Guide:
        """A guide through one outcome, at its beginning. Raises `ModelError` if the form is no regular expression, or
        the tokenizer's tokens are not known as bytes."""
        if form not in self._matchers:
            self._matchers[form] = self._compile(form)
        return Guide(self, form, self._matchers[form].deep_copy())

    def allowed(self, form: str, tokens: Sequence[int]) -> Tensor:
        """(tokens, words) int32, bit by bit: what could have come instead of each token of an outcome.

        An outcome from elsewhere may break the form: from there on, everything. It may also write in other tokens what
        the form forces, which it forces in the tokenizer's own: there, everything, so that no token has probability 0.
        """
        guide = self.guide(form)
        rows = []
        for token in tokens:
            row = guide.allowed()
            known = int(row[token // 32]) >> token % 32 & 1
            rows.append(row if guide.take(token) and known else torch.full_like(row, FREE))
        return torch.stack(rows)

    def _compile(self, form: str) -> Any:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        if self._trie is None:
            try:
                self._trie = from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self.end)
            except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:  # a foreign tokenizer's
                raise ModelError(
                    f"the tokenizer of {self.name!r} cannot be held to a form: {error}; use a byte-level or "
                    "SentencePiece tokenizer, or cases without a form"
                ) from error
        matcher = LLMatcher(self._trie, LLMatcher.grammar_from_regex(form), log_level=0)
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

    def allowed(self) -> Tensor:
        """(words,) int32: the tokens that may come next, a bit each."""
        if self._over:
            return torch.full((self._forms.words,), FREE, dtype=torch.int32)
        if self._matcher.is_stopped():  # nothing can follow but the end
            return self._forms.ending
        mask = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.int32)
        return mask[: self._forms.words]

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


def restrict(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """(tokens, vocabulary) logits, -inf where the form does not allow a token. allowed: (tokens, words) int32."""
    if allowed is None:
        return logits
    bits = allowed.to(logits.device)[:, :, None] >> torch.arange(32, dtype=torch.int32, device=logits.device) & 1
    return logits.masked_fill(bits.flatten(1)[:, : logits.shape[1]] == 0, -torch.inf)
