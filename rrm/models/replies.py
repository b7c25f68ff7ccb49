"""What a server sent back, read strictly: a reply, or why it is none. What it says of the key is taken out first."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rrm.core.border import plain
from rrm.core.errors import RRMError

SECRET = 8
"""A shorter key ("none", "EMPTY") is a placeholder: it is not looked for in texts."""
WINDOW = 16
"""So many characters of a key, or all of a shorter one, are enough to be taken for it: servers cut what they echo."""
ROUNDING = 1e-3
"""So far above 0, in nats, or above 1, in probability, may rounding take a log-probability, or a sum."""
TOKENS = 2**53
"""A count of tokens is below this, or not known."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    text: str
    finished: bool
    """Ended by itself: not cut at `max_tokens`, nor by a filter."""
    first: Mapping[str, float] = field(default_factory=dict)
    """Likely first tokens -> log-probability in nats, finite; empty if the server does not give them. Tokens that read
    alike count together."""
    served: str = ""
    """The model that answered, as the server calls it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    retries: int = 0
    seconds: float = 0.0
    withheld: str = ""
    """Why the text is no answer: "refusal" (the text is the refusal), "content_filter"; empty where it is one."""


class NoReply(RRMError, ValueError):
    """What came back is no chat completion, or has numbers that are none; says which."""


# --- a chat completion --------------------------------------------------------------------------------


class _Strict(BaseModel):
    """What is needed; servers say more, and differ in it. No text is taken for a number, nor a truth value."""

    model_config = ConfigDict(strict=True)


class _Token(_Strict):
    token: str
    logprob: float | None
    """None: some servers say so of a token that has no probability, as JSON has no -Infinity."""


class _Position(_Token):
    top_logprobs: list[_Token] | None = None


class _Logprobs(_Strict):
    content: list[_Position] | None = None


class _Message(_Strict):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Strict):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: object = None
    completion_tokens: object = None


class _Completion(_Strict):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Usage | None = None


def read(body: str, key: str, retries: int = 0, seconds: float = 0.0) -> Reply:
    """The reply in the body of a chat completion, without the key.

    Raises `NoReply` for what is none, for one without a text (a call of a tool), and for log-probabilities that are no
    numbers or of no distribution: what is kept is asked for no second time, so it must be right.
    """
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise NoReply(f"{at}: {first['msg']}" if at else first["msg"]) from None
    choice, usage = completion.choices[0], completion.usage or _Usage()
    why, message = choice.finish_reason, choice.message
    withheld = "content_filter" if why == "content_filter" else "refusal" if message.refusal else ""
    text = message.refusal or message.content
    if text is None and why not in ("length", "content_filter"):
        raise NoReply(f"choices.0.message.content: there is no text (finish_reason: {why})")
    positions = choice.logprobs.content if choice.logprobs is not None else None
    return Reply(
        silenced(text or "", key), why not in ("length", "content_filter"),
        {silenced(token, key): value for token, value in _likely(positions or []).items()},
        silenced(completion.model or "", key), _count(usage.prompt_tokens), _count(usage.completion_tokens), retries,
        seconds, withheld,
    )  # fmt: skip


def _likely(positions: list[_Position]) -> dict[str, float]:
    """First tokens -> log-probability. What has none, or -Infinity, is left out: it has no probability."""
    if not positions:
        return {}
    first = positions[0]
    top = first.top_logprobs or []
    said = [*top, *([first] if first.token not in [one.token for one in top] else [])]
    found: dict[str, list[float]] = {}
    for one in said:
        if one.logprob is None or one.logprob == -math.inf:
            continue
        if not one.logprob <= ROUNDING:  # NaN, too, is not below
            raise NoReply(f"the log-probability of {plain(one.token, 20)!r} is {one.logprob}, of no probability")
        found.setdefault(one.token, []).append(min(0.0, one.logprob))
    if (total := sum(math.exp(one) for each in found.values() for one in each)) > 1 + ROUNDING * len(said):
        raise NoReply(f"the first token's alternatives have the probability {total:.3f} together, more than 1")
    return {token: each[0] if len(each) == 1 else _together(each) for token, each in found.items()}


def _together(logs: list[float]) -> float:
    """The logarithm of the sum of what these are logarithms of, at most 0."""
    most = max(logs)
    return min(0.0, most + math.log(sum(math.exp(one - most) for one in logs)))


def _count(given: object) -> int | None:
    """A number of tokens; None where the server gives none that can be one."""
    return given if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < TOKENS else None


# --- the key -----------------------------------------------------------------------------------------


def silenced(text: str, key: str) -> str:
    """A text that went through a server which knows the key, without it, however it is written or cut."""
    if len(key) < SECRET:
        return text
    for form in _forms(key):
        text = _without(text, form)
    return text


def _forms(key: str) -> Iterable[str]:
    """As it is, and as JSON, an address, Python and an Authorization header of another kind write it."""
    plainly = {key, json.dumps(key)[1:-1], quote(key, safe=""), repr(key)[1:-1]}
    return sorted(plainly | {base64.b64encode(form.encode()).decode().rstrip("=") for form in (key, f":{key}")})


def _without(text: str, key: str) -> str:
    size = min(len(key), WINDOW)
    windows = {key[i : i + size] for i in range(len(key) - size + 1)}
    if not any(window in text for window in windows):
        return text
    out, i, hidden = [], 0, 0  # `hidden`: up to where the text is of the key
    while i < len(text):
        if text[i : i + size] in windows:
            if i >= hidden:
                out.append("[the key]")
            hidden = i + size
        if i >= hidden:
            out.append(text[i])
        i += 1
    return "".join(out)
