"""Somebody else's language model, behind any OpenAI-compatible endpoint: asked concurrently, every reply kept.

Requests go through the `openai` client, whose retries (429, 408, 409, 5xx and lost connections), backoff and respect
for Retry-After are used as they are, over a connection of ours (`wire`). A reply that is no chat completion (cut JSON,
no choices, a probability that is none: `replies`) is asked for again, as often as `retries` says. What is still wrong
then raises `EndpointError`; nothing is made up in its place, and nothing of it is kept.

The key comes from an environment variable and goes into the client, nowhere else: not into settings, records, logs,
messages or reprs. A server that repeats it in an error or a reply is silenced.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError, field_validator

from rrm.core.border import plain
from rrm.core.errors import RRMError
from rrm.core.extras import bring
from rrm.core.records import digest
from rrm.core.settings import Explained, SettingError
from rrm.models import wire
from rrm.models.dialects import Dialect, form_fields
from rrm.models.replies import NoReply, Reply, read, silenced
from rrm.store.database import Database
from rrm.store.encoding import written
from rrm.store.upgrades import CALLS

if TYPE_CHECKING:
    import openai

TOP = 5
"""Alternatives of the first token that are asked for: what every server that gives any allows."""


class EndpointError(RRMError):
    """An endpoint cannot be used, or did not answer. What it had answered before is kept."""


@dataclass(frozen=True)
class Ask:
    """One question: a user's turn, and how the answer is to be sampled."""

    prompt: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    """For servers that know seeds."""
    alternatives: bool = False
    """Ask for the likeliest first tokens with their log-probabilities, where the server gives them."""
    form: str = ""
    """A regular expression that the answer is held to, by a server that can (`Endpoint.forms`); empty: free."""


# --- what was asked ----------------------------------------------------------------------------------

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE, endpoint TEXT NOT NULL, who TEXT NOT NULL, task TEXT NOT NULL, served TEXT NOT NULL,
    reply TEXT NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL, retries INTEGER NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL
);
"""
_reply = TypeAdapter(Reply)


class Ledger(Database):
    """Every reply, as it came: so that nothing is paid for twice, and what was paid is known.

    `calls.db` in the run's folder, beside run.db; in memory for an endpoint that is used without a run.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        super().__init__(Path(path), SCHEMA, ("calls",), CALLS)

    def get(self, key: str) -> Reply | None:
        """The reply to a question, by its key; None if it was not asked."""
        with self._reading():
            return self._kept(key)[1]

    def put(self, key: str, reply: Reply, endpoint: str, who: str, task: str, cost: float | None) -> None:
        """Keep a reply; what is there already stays. `cost` is in the currency of the endpoint's prices."""
        body = written(_reply, reply)
        with self._writing():
            free, there = self._kept(key)
            if there is not None:
                return
            self._db.execute(
                "INSERT INTO calls (key, endpoint, who, task, served, reply, prompt_tokens,"
                " completion_tokens, cost, retries, seconds, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO NOTHING",
                (
                    free, endpoint, who, task, reply.served, body, reply.prompt_tokens, reply.completion_tokens, cost,
                    reply.retries, reply.seconds, time.time(),
                ),
            )  # fmt: skip

    def _kept(self, key: str) -> tuple[str, Reply | None]:
        """Where a reply to this question is or would be kept, and the one that is. A row that cannot be read (an older
        rrm kept -Infinity as nothing) stays, as all rows do; the question is asked again, and kept beside it."""
        while True:
            row = self._db.execute("SELECT reply FROM calls WHERE key = ?", (key,)).fetchone()
            if row is None:
                return key, None
            with suppress(ValidationError):
                return key, _reply.validate_json(row[0])
            key = digest(key, "again")


# --- the endpoint ------------------------------------------------------------------------------------


class Endpoint(Explained):
    """A model at an OpenAI-compatible server, such as `transformers serve`, llama.cpp's, vLLM's, or a provider's."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    base_url: str
    """Where the server is, up to and with /v1: http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """The model's name there."""
    key: str = Field(default="RRM_API_KEY", pattern="^[A-Z][A-Z0-9_]*$", exclude=True, repr=False)
    """NAME of the environment variable that holds the key (never the key); a server without keys needs none."""
    timeout: float = Field(default=60.0, gt=0, exclude=True)
    """Seconds after which a try is given up whose answer is not whole: what drips is too slow."""
    retries: int = Field(default=5, ge=0, exclude=True)
    """Further tries of a question, with growing pauses."""
    concurrency: int = Field(default=8, ge=1, exclude=True)
    """Questions under way at once."""
    price_in: float | None = Field(default=None, ge=0, exclude=True)
    """Price of a million tokens read, in whatever currency: for the records."""
    price_out: float | None = Field(default=None, ge=0, exclude=True)
    """Price of a million tokens written."""
    extra: Mapping[str, Any] = Field(default_factory=dict)
    """Further fields of each request, as the server defines them, e.g. {"top_p": 0.9}."""
    forms: Dialect = Field(default="none", exclude_if=lambda dialect: dialect == "none")
    """How the server is told the form of an answer: vllm (`structured_outputs`), sglang (`regex`), llama.cpp
    (`grammar`, for plain regular expressions), or none: it is not told."""

    _ledger: Ledger | None = None
    _unwanted: set[str] = PrivateAttr(default_factory=set)
    """Fields that this server turned out to refuse."""

    @field_validator("base_url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an address; give one such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address may not carry a name, password or query: it is recorded; use `key`")
        return url.rstrip("/")

    def model_post_init(self, context: object) -> None:
        """Nothing is known yet of what the server refuses."""
        self._unwanted = set()

    @classmethod
    def at(cls, text: str) -> Self:
        """Of "MODEL@URL", split at the last @: a model's name may have one, the address may not. Raises
        `EndpointError`."""
        model, at, url = text.rpartition("@")
        try:
            if at:
                return cls(model=model, base_url=url)
            problem = "no @ in it"
        except SettingError as error:
            problem = "; ".join(fault["msg"] for fault in error.found.errors(include_input=False))
        raise EndpointError(
            f"an endpoint is MODEL@URL, such as my-model@http://127.0.0.1:8000/v1; this is not one: {problem}"
        )

    @property
    def where(self) -> str:
        """What it is and where: openai:MODEL@URL."""
        return f"openai:{self.model}@{self.base_url}"

    def record(self, folder: Path) -> None:
        """Keep replies in a run's folder from now on, and use those that are there."""
        self._ledger = Ledger(folder / "calls.db")

    @property
    def ledger(self) -> Ledger:
        """Where replies are kept; in memory unless `record` said otherwise."""
        if self._ledger is None:
            self._ledger = Ledger()
        return self._ledger

    def key_of(self, ask: Ask) -> str:
        """The identity of a question at this endpoint; not of how it is sent."""
        asked = asdict(ask)
        if not ask.form or self.forms == "none":
            del asked["form"]  # it is not sent; and replies of older runs are found
        return digest(self.base_url, self.model, dict(self.extra), asked)

    def answered(self, ask: Ask) -> Reply | None:
        """The reply, if there was one before."""
        return self.ledger.get(self.key_of(ask))

    def ask(self, asks: Sequence[Ask], who: str, task: str) -> list[Reply]:
        """The replies, in order; what was answered before is not asked again.

        Each reply is kept as it comes, whatever becomes of the others: after a failure or Ctrl-C the same call goes
        on from there. Raises `EndpointError`.

        who, task: for the records: "user" or "agent", and the node it works for.
        """
        for form in {ask.form for ask in asks if ask.form}:
            form_fields(self.forms, form)  # before anything is paid for
        keys = [self.key_of(ask) for ask in asks]
        new = {key: ask for key, ask in zip(keys, asks, strict=True) if self.ledger.get(key) is None}
        if new:
            # A thread of its own runs the event loop: a notebook's is running already. Ctrl-C ends it at once.
            from anyio.from_thread import start_blocking_portal

            client = self._client_class()
            with start_blocking_portal() as portal:
                failed = portal.call(self._ask_all, client, new, who, task)
            if failed is not None:
                raise EndpointError(failed)
        replies = [self.ledger.get(key) for key in keys]
        assert all(reply is not None for reply in replies)
        return [reply for reply in replies if reply is not None]

    async def _ask_all(
        self, client_class: type[openai.AsyncOpenAI], asks: Mapping[str, Ask], who: str, task: str
    ) -> str | None:
        """Ask, at most `concurrency` at once, and keep the replies. Returns why it gave up, if it did: after a failure
        nothing new is asked, and what is under way may finish."""
        slots, failures = asyncio.Semaphore(self.concurrency), list[str]()
        key = self._key()

        async def one(client: openai.AsyncOpenAI, id: str, ask: Ask) -> None:
            async with slots:
                if not failures:
                    try:
                        reply = await self._one(client, ask, key)
                        self.ledger.put(id, reply, self.where, who, task, self._cost(reply))
                    except RRMError as error:
                        failures.append(str(error))

        async with (
            client_class(
                api_key=key or "none", base_url=self.base_url, timeout=self.timeout, max_retries=self.retries,
                http_client=wire.client(self.timeout),
            ) as client,  # fmt: skip
            asyncio.TaskGroup() as group,
        ):
            for id, ask in asks.items():
                group.create_task(one(client, id, ask))
        return failures[0] if failures else None

    async def _one(self, client: openai.AsyncOpenAI, ask: Ask, key: str) -> Reply:
        """One question until it is answered. Raises `EndpointError`, without a trail to what holds the key."""
        import openai

        began, retries, odd, problem = time.monotonic(), 0, 0, ""
        while not problem:
            try:
                raw = await client.chat.completions.with_raw_response.create(**self._body(ask))
                retries += raw.retries_taken
                reply = read(raw.text, key, retries + odd, time.monotonic() - began)
                if self._formed(ask, reply):
                    return reply
                problem = (
                    f"{self.where}: an answer has not the form {ask.form!r}: {plain(reply.text, 200)!r}; a server that "
                    f"is told forms as forms={self.forms} does would not give it. What it had answered is kept."
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._give_in(_complaint(error, key), ask):
                    problem = self._explain(error, key)
            except openai.OpenAIError as error:
                problem = self._explain(error, key)
            except wire.WireError as error:
                problem = f"{self.where}: {silenced(str(error), key)}. What it had answered is kept."
            except NoReply as error:
                odd += 1
                if odd > self.retries:
                    shown, why = plain(silenced(raw.text, key), 200), plain(silenced(str(error), key))
                    problem = (
                        f"{self.where}: in {odd} tries, what came back was no chat completion ({why}), last {shown!r}; "
                        "is this an OpenAI-compatible server, and the address right up to /v1?"
                    )
                else:
                    await asyncio.sleep(min(0.1 * 2**odd, 8.0))
        raise EndpointError(problem)

    def _body(self, ask: Ask) -> dict[str, Any]:
        longest = "max_completion_tokens" if "max_tokens" in self._unwanted else "max_tokens"
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": ask.prompt}],
            "temperature": ask.temperature,
            longest: ask.max_tokens,
        }
        if "seed" not in self._unwanted:
            body["seed"] = ask.seed
        if ask.alternatives and "logprobs" not in self._unwanted:
            body |= {"logprobs": True, "top_logprobs": TOP}
        extra = {**self.extra, **(form_fields(self.forms, ask.form) if ask.form else {})}
        return body | ({"extra_body": extra} if extra else {})

    def _formed(self, ask: Ask, reply: Reply) -> bool:
        """Whether a whole answer has the form that was sent; servers ignore fields that they do not know.

        Forms that only Rust's regex can read are not looked at."""
        if not ask.form or self.forms == "none" or not reply.finished or reply.withheld:
            return True
        try:
            return re.fullmatch(ask.form, reply.text) is not None
        except re.error:
            return True

    def _give_in(self, complaint: str, ask: Ask) -> bool:
        """Whether a field that a server refuses can be left out, or go by its other name, without changing the answer.
        Never the temperature: that would."""
        for name, sign in (
            ("logprobs", r"logprobs"), ("seed", r"\bseed\b"), ("max_tokens", r"max_completion_tokens"),
        ):  # fmt: skip
            if name not in self._unwanted and re.search(sign, complaint) and (name != "logprobs" or ask.alternatives):
                self._unwanted.add(name)
                return True
        return False

    def _explain(self, error: Exception, key: str) -> str:
        """What went wrong and how to mend it, without the key."""
        import openai

        said = _complaint(error, key)
        tries = f"{self.retries + 1} tries"
        if isinstance(error, openai.APITimeoutError):
            what = f"no whole answer within {self.timeout:g} s, in {tries}; raise timeout, or lower concurrency"
        elif isinstance(error, openai.APIConnectionError):
            cause = plain(silenced(str(error.__cause__ or error), key), 200)
            what = f"cannot be reached in {tries} ({cause}); is the server running, and the address right?"
        elif isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            held = f"the key in ${self.key}" if key else f"a question without a key (${self.key} is not set)"
            what = f"refuses {held}: {said}; set that environment variable, or name another with key=NAME"
        elif isinstance(error, openai.NotFoundError):
            what = f"has no such model, or nothing at that address: {said}"
        elif isinstance(error, openai.RateLimitError):
            what = f"too many questions for it, in {tries}: {said}; lower concurrency, or give the command again later"
        elif isinstance(error, openai.InternalServerError):
            what = f"the server failed in {tries}: {said}; see its log, and give the command again"
        else:
            what = f"refuses the question: {said}"
        return f"{self.where}: {what}. What it had answered is kept."

    def _key(self) -> str:
        """The key itself; empty if there is none. Raises `EndpointError` for what could not be a key."""
        key = os.environ.get(self.key, "").strip()
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise EndpointError(f"{self.where}: what ${self.key} holds is no key: it has blanks or odd characters")
        recorded = json.dumps([self.base_url, self.model, dict(self.extra)], default=str)
        if silenced(recorded, key) != recorded:
            raise EndpointError(
                f"{silenced(self.where, key)}: what ${self.key} holds stands in the address, the model's name or "
                "`extra`, which are recorded; take it out of there"
            )
        return key

    def _cost(self, reply: Reply) -> float | None:
        """In the prices' currency; None where it is not known."""
        counts = (reply.prompt_tokens, reply.completion_tokens)
        if self.price_in is None or self.price_out is None or counts[0] is None or counts[1] is None:
            return None
        return (counts[0] * self.price_in + counts[1] * self.price_out) / 1e6

    def _client_class(self) -> type[openai.AsyncOpenAI]:
        self._key()
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise EndpointError(
                f"{self.where}: needs the openai client; {bring('openai')}"
            ) from error
        return AsyncOpenAI


def _complaint(error: Exception, key: str) -> str:
    """What the server said is wrong; some say it elsewhere than where the client looks."""
    body = getattr(error, "body", None)
    more = "" if body is None or " - " in str(error) else f" - {body}"
    return plain(silenced(f"{error}{more}", key))
