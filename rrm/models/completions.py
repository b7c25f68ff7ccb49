"""What a vLLM server answers to /v1/completions and /v1/models, read strictly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rrm.models.replies import ROUNDING, NoReply


class _Strict(BaseModel):
    """What is needed; a server says more. No text is taken for a number."""

    model_config = ConfigDict(strict=True)


class _Logprobs(_Strict):
    token_logprobs: list[float | None]


class Choice(_Strict):
    """One continuation."""

    index: int = Field(ge=0)
    token_ids: list[int] = Field(min_length=1)
    logprobs: _Logprobs
    finish_reason: str | None = None
    prompt_token_ids: list[int] | None = None

    @property
    def values(self) -> list[float]:
        """The tokens' log-probabilities in nats, at most 0."""
        return [min(0.0, value) for value in self.logprobs.token_logprobs if value is not None]


class _Completion(_Strict):
    choices: list[Choice]


class _Model(_Strict):
    id: str
    parent: str | None = None


class _Models(_Strict):
    data: list[_Model]


def read_completion(body: str, prompt: Sequence[int], n: int) -> list[Choice]:
    """The `n` continuations of a prompt, in order. Raises `NoReply` for what is none: fewer or others than were asked
    for, no token ids (`return_token_ids` is vLLM's since 0.10.2), log-probabilities that are no numbers."""
    try:
        choices = sorted(_Completion.model_validate_json(body).choices, key=lambda one: one.index)
    except ValidationError as error:
        raise _wrong(error) from None
    if [one.index for one in choices] != list(range(n)):
        raise NoReply(f"choices {[one.index for one in choices]}, and {n} were asked for")
    for one in choices:
        if one.prompt_token_ids is not None and one.prompt_token_ids != list(prompt):
            raise NoReply("prompt_token_ids: they are not those that were sent")
        values = one.logprobs.token_logprobs
        if len(values) != len(one.token_ids):
            raise NoReply(f"{len(one.token_ids)} tokens with {len(values)} log-probabilities")
        bad = [value for value in values if value is None or not -math.inf < value <= ROUNDING]
        if bad:
            raise NoReply(f"the log-probability of a sampled token is {bad[0]}, of no probability")
    return choices


def read_models(body: str) -> dict[str, str | None]:
    """Name -> the name of the model whose adapter it is; None for the base model. Raises `NoReply`."""
    try:
        return {one.id: one.parent for one in _Models.model_validate_json(body).data}
    except ValidationError as error:
        raise _wrong(error) from None


def _wrong(error: ValidationError) -> NoReply:
    first = error.errors(include_url=False, include_input=False)[0]
    at = ".".join(map(str, first["loc"]))
    return NoReply(f"{at}: {first['msg']}" if at else first["msg"])
