"""Sampling by a vLLM server instead of our own decoding: the agents of a tree are adapters on the model it serves.

Each version of a fork's weights is an adapter of its own, under a name that is its content's (`Fork.version`): a name
that was used before for other weights would be answered from the server's prefix cache. It is written as a PEFT folder,
loaded when it is first sampled from and unloaded when the fork's weights have changed. The starting model is the base.

Log-probabilities are the server's, at temperature 1 and given the form, as ours are; of each call some outcomes are
computed again here, and a difference above a bound is an error: whatever is trained on them would learn from another
policy than the one that wrote them.

A server that was killed and started again knows no adapters: they are loaded again. Its answers may differ then, and
with what else it computes, so agents are not `repeatable`, and a run keeps their outcomes before anybody judges them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from rrm.core.border import plain
from rrm.core.errors import ConfigError, Notice, RRMError
from rrm.core.extras import bring
from rrm.core.seeding import generator, seed_of
from rrm.core.spelling import nearest
from rrm.models import wire
from rrm.models.completions import Choice, read_completion, read_models
from rrm.models.fork import Fork
from rrm.models.packing import PrefixGroup
from rrm.models.peft_folder import write_adapter
from rrm.models.replies import NoReply, silenced
from rrm.models.sampling import Sampled

if TYPE_CHECKING:
    import openai

KEY = "RRM_API_KEY"
"""NAME of the environment variable that holds the server's key, if it wants one (`--api-key`)."""
RETRIES = 3
"""Of the openai client, for each try: with pauses, and as long as a server asks for."""
PAUSE = 2.0
"""Seconds between tries while a server is away."""
BOUNDS = {torch.float32: 2e-3, torch.bfloat16: 0.05}
"""Nats that a token's log-probability may differ from ours in the mean over an outcome, by what our trunk computes in.
Measured: 5e-5 at most in float32."""
SINGLE = 20
"""So many times the bound may a single token differ."""


class SamplerError(RRMError):
    """A server that samples cannot be used, did not answer, or samples from another policy than it was asked to."""


@dataclass(frozen=True)
class VLLMSetting:
    """How a vLLM server samples: `vllm:URL`, or `vllm:URL,NAME=VALUE,...`."""

    url: str
    """Up to and with /v1: http://127.0.0.1:8000/v1."""
    check: int = 4
    """Outcomes of each call whose log-probabilities are computed here, too."""
    bound: float = 0.0
    """Nats by which a token's log-probability may differ from ours, in the mean over an outcome, before it is an error;
    0: 0.002 where our trunk computes in float32, 0.05 where in bfloat16."""
    adapters: int = 8
    """Adapters that are kept loaded; those not used for longest are unloaded."""
    concurrency: int = 64
    """Cases under way at once."""
    timeout: float = 600.0
    """Seconds for one answer."""
    patience: float = 900.0
    """Seconds for which a server may be away (loading a large model takes minutes) before that is an error."""
    folder: str = ""
    """Where adapters are written for the server to read, which must see it under the same path. By default a temporary
    one of this machine."""

    @classmethod
    def read(cls, text: str) -> VLLMSetting:
        """Raises `ConfigError` for anything else than vllm:URL[,NAME=VALUE,...]."""
        kind, _, rest = text.partition(":")
        url, *parts = rest.split(",")
        if kind != "vllm" or not url.startswith(("http://", "https://")) or "@" in url or "?" in url:
            raise ConfigError(
                f"sampler {text!r}: give own, or vllm:URL, such as vllm:http://127.0.0.1:8000/v1 "
                f"(settings behind it, with commas: {cls._names()})"
            )
        kinds: dict[str, Callable[[str], Any]] = {
            "check": int, "bound": float, "adapters": int, "concurrency": int, "timeout": float, "patience": float,
        }  # fmt: skip
        names = [field.name for field in fields(cls) if field.name != "url"]
        found: dict[str, Any] = {}
        for part in parts:
            name, equals, value = part.strip().partition("=")
            if not equals or name not in names:
                raise ConfigError(
                    f"sampler {text!r}: {part!r} is no setting of it{nearest(name, names)}; there are {cls._names()}"
                )
            try:
                found[name] = kinds.get(name, str)(value)
            except ValueError as error:
                raise ConfigError(f"sampler {text!r}: {name}={value} is no number") from error
        made = cls(url.rstrip("/"), **found)
        for name, least in (("check", 0), ("bound", 0), ("adapters", 1), ("concurrency", 1), ("patience", 0)):
            if not getattr(made, name) >= least:
                raise ConfigError(f"sampler {text!r}: {name}={getattr(made, name)}; give {least} or more")
        if not made.timeout > 0:
            raise ConfigError(f"sampler {text!r}: timeout={made.timeout}; give more than 0")
        return made

    @classmethod
    def _names(cls) -> str:
        return ", ".join(f"{one.name} (default {one.default or 'by what it is'})"
                         for one in fields(cls) if one.name != "url")  # fmt: skip

    @property
    def where(self) -> str:
        """What it is and where."""
        return f"vllm:{self.url}"


@dataclass(frozen=True)
class _Question:
    """A case and how it is continued."""

    prompt: tuple[int, ...]
    body: Mapping[str, Any]
    n: int
    form: str


def _request(n: int, max_tokens: int, heat: float, key: str, ends: Collection[int], form: str) -> dict[str, Any]:
    """A request, but for its model and prompt. What the model's own generation_config.json would change in the
    distribution is set; what ends an outcome is ours to say."""
    body: dict[str, Any] = {
        "max_tokens": max_tokens, "temperature": heat, "n": n, "seed": seed_of("vllm", key) % 2**48,
        "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "ignore_eos": True, "stop_token_ids": sorted(ends), "logprobs": 0,
        "return_token_ids": True, "skip_special_tokens": False, "add_special_tokens": False,
    }  # fmt: skip
    return body | ({"structured_outputs": {"regex": form}} if form else {})


class VLLMSampler:
    """A `Sampler` (`rrm.models.sampling`): give it to a backbone, `backbone.sampler = VLLMSampler(setting)`."""

    def __init__(self, setting: VLLMSetting) -> None:
        self.setting = setting
        self._base = ""
        self._loaded: OrderedDict[str, Path] = OrderedDict()  # by use, the latest last
        self._named: WeakKeyDictionary[Fork, str] = WeakKeyDictionary()
        self._own: TemporaryDirectory[str] | None = None
        self._away = False

    def __reduce__(self) -> tuple[type[VLLMSampler], tuple[VLLMSetting]]:
        """In another process it has loaded nothing."""
        return VLLMSampler, (self.setting,)

    def __call__(
        self, fork: Fork, prefixes: Sequence[Sequence[int]], n: int, max_tokens: int, temperature: float,
        keys: Sequence[str], ends: Collection[int], greedy: bool = False, forms: Sequence[str] = (),
    ) -> list[list[Sampled]]:  # fmt: skip
        """See `rrm.models.sampling.sample`. Raises `SamplerError`."""
        if len(keys) != len(prefixes):
            raise ValueError(f"{len(prefixes)} prefixes but {len(keys)} keys; give one key per prefix")
        if not prefixes:
            return []
        fork.backbone.check_length(max(map(len, prefixes)) + max_tokens)
        draws = 1 if greedy else n
        heat = 0.0 if greedy else temperature
        questions = [
            _Question(tuple(prefix), _request(draws, max_tokens, heat, key, ends, form), draws, form)
            for prefix, key, form in zip(prefixes, keys, forms or [""] * len(keys), strict=True)
        ]
        from anyio.from_thread import start_blocking_portal  # what the client needs, too

        with start_blocking_portal() as portal:
            found, failed = portal.call(self._all, self._client_class(), fork, questions)
        if failed is not None:
            raise SamplerError(failed)
        out = [
            [self._sampled(fork, one, choice, max_tokens, ends) for choice in row]
            for one, row in zip(questions, found, strict=True)
        ]
        self._check(fork, questions, out, keys)
        return [row * (n // draws) for row in out]

    # --- questions -------------------------------------------------------------------------------

    async def _all(
        self, client_class: type[openai.AsyncOpenAI], fork: Fork, questions: Sequence[_Question]
    ) -> tuple[list[list[Choice]], str | None]:
        """The choices of each question; and why it gave up, if it did."""
        key, slots, failures = os.environ.get(KEY, "").strip(), asyncio.Semaphore(self.setting.concurrency), list[str]()
        found: list[list[Choice]] = [[] for _ in questions]
        loading = asyncio.Lock()

        async def one(client: openai.AsyncOpenAI, i: int) -> None:
            async with slots:
                if not failures:
                    try:
                        found[i] = await self._ask(client, key, fork, name, questions[i], loading)
                    except SamplerError as error:
                        failures.append(str(error))

        async with client_class(
            api_key=key or "none", base_url=self.setting.url, timeout=self.setting.timeout, max_retries=RETRIES,
            http_client=wire.client(self.setting.timeout),
        ) as client:  # fmt: skip
            try:
                name = await self._ready(client, key, fork)
            except SamplerError as error:
                return found, str(error)
            async with asyncio.TaskGroup() as group:
                for i in range(len(questions)):
                    group.create_task(one(client, i))
        return found, failures[0] if failures else None

    async def _ask(
        self, client: openai.AsyncOpenAI, key: str, fork: Fork, name: str, question: _Question, loading: asyncio.Lock
    ) -> list[Choice]:
        """Until it is answered. Raises `SamplerError`."""
        import openai

        body = {"model": name, "prompt": list(question.prompt), **question.body}
        odd = lost = 0
        while True:
            try:
                said = await self._post(client, key, "/completions", body)
                return read_completion(said, question.prompt, question.n)
            except openai.NotFoundError as error:  # it was started again, or somebody unloaded the adapter
                lost += 1
                if lost > RETRIES:
                    raise SamplerError(self._said(f"lost the adapter {name} {lost} times", error, key)) from None
                async with loading:
                    if name not in await self._served(client, key):
                        self._base = ""
                        await self._ready(client, key, fork, again=True)
                        if self._base and not fork.trainable:
                            body["model"] = self._base
            except openai.OpenAIError as error:
                raise SamplerError(self._said("refuses to sample", error, key)) from None
            except NoReply as error:
                odd += 1
                if odd > RETRIES:
                    raise SamplerError(
                        f"{self.setting.where}: in {odd} tries, what came back was no sample ({plain(str(error))}); is "
                        "this a vLLM of 0.11 or later, and the address right up to /v1?"
                    ) from None
                await asyncio.sleep(PAUSE)

    async def _post(self, client: openai.AsyncOpenAI, key: str, path: str, body: Mapping[str, Any] | None) -> str:
        """What it answers; a server that is away is waited for. Without a body: GET."""
        import openai

        began = time.monotonic()
        while True:
            try:
                asked = client.get(path, cast_to=str) if body is None else client.post(path, body=body, cast_to=str)
                said = str(await asked)
                self._away = False
                return said
            except (openai.APIConnectionError, openai.InternalServerError) as error:
                if time.monotonic() - began > self.setting.patience:
                    what = f"cannot be reached for {self.setting.patience:g} s; is the server running?"
                    raise SamplerError(self._said(what, error, key)) from None
                if not self._away:
                    self._away = True
                    what = f"does not answer; it is waited for, up to {self.setting.patience:g} s"
                    warnings.warn(self._said(what, error, key), Notice, stacklevel=2)
                await asyncio.sleep(PAUSE)
            except wire.WireError as error:
                raise SamplerError(f"{self.setting.where}: {silenced(str(error), key)}") from None

    def _said(self, what: str, error: Exception, key: str) -> str:
        cause = error.__cause__ if error.__cause__ is not None else error
        return f"{self.setting.where}: {what} ({plain(silenced(str(cause), key), 400)})"

    # --- adapters --------------------------------------------------------------------------------

    async def _served(self, client: openai.AsyncOpenAI, key: str) -> dict[str, str | None]:
        import openai

        try:
            return read_models(await self._post(client, key, "/models", None))
        except (openai.OpenAIError, NoReply) as error:
            raise SamplerError(self._said("does not say which models it serves", error, key)) from None

    async def _ready(self, client: openai.AsyncOpenAI, key: str, fork: Fork, again: bool = False) -> str:
        """The name under which the server samples as a fork, which it can now. `again`: it has lost what was loaded."""
        if not self._base:
            served = await self._served(client, key)
            bases = [name for name, parent in served.items() if parent is None]
            if not bases:
                raise SamplerError(f"{self.setting.where}: serves no model")
            self._base = bases[0]  # others are further names of it
        if not fork.trainable:
            return self._base
        name = f"rrm-{fork.version}"
        if again or name not in self._loaded:
            await self._load(client, key, fork, name)
        self._loaded.move_to_end(name)
        self._named[fork] = name
        current = {*self._named.values()}
        stale = [one for one in self._loaded if one not in current]
        many = [one for one in self._loaded if one != name][: max(0, len(self._loaded) - self.setting.adapters)]
        for one in dict.fromkeys([*stale, *many]):
            await self._unload(client, key, one)
        return name

    async def _load(self, client: openai.AsyncOpenAI, key: str, fork: Fork, name: str) -> None:
        import openai

        folder = self._folder() / name
        write_adapter(fork, folder)
        try:
            await self._post(client, key, "/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except openai.NotFoundError as error:
            what = (
                "loads no adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora, and let it "
                f"see {folder}"
            )
            raise SamplerError(self._said(what, error, key)) from None
        except openai.OpenAIError as error:
            if name not in await self._served(client, key):  # loaded by an earlier process: the same content
                raise SamplerError(self._said(f"does not load the adapter {name} from {folder}", error, key)) from None
        self._loaded[name] = folder

    async def _unload(self, client: openai.AsyncOpenAI, key: str, name: str) -> None:
        """A server that lost it has unloaded it."""
        import openai

        folder = self._loaded.pop(name)
        try:
            await self._post(client, key, "/unload_lora_adapter", {"lora_name": name})
        except (openai.NotFoundError, openai.BadRequestError):
            pass
        except openai.OpenAIError as error:
            raise SamplerError(self._said(f"does not unload the adapter {name}", error, key)) from None
        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        if self.setting.folder:
            return Path(self.setting.folder).absolute()
        if self._own is None:
            self._own = TemporaryDirectory(prefix="rrm-adapters-", ignore_cleanup_errors=True)
            Path(self._own.name).chmod(0o755)  # the server may be another user's
        return Path(self._own.name)

    # --- what came back --------------------------------------------------------------------------

    def _sampled(
        self, fork: Fork, question: _Question, choice: Choice, max_tokens: int, ends: Collection[int]
    ) -> Sampled:
        ids = tuple(choice.token_ids)
        ended = ids[-1] in ends
        over = next((i for i, token in enumerate(ids[:-1]) if token in ends), None)
        if over is not None or len(ids) > max_tokens or (not ended and len(ids) < max_tokens):
            raise SamplerError(
                f"{self.setting.where}: an outcome of {len(ids)} tokens, of at most {max_tokens}, "
                + (f"goes on after its end at {over + 1}" if over is not None else "has no end")
                + f" (finish_reason {choice.finish_reason!r}, last token {ids[-1]}); the server's --max-model-len must "
                "hold the case and its outcome, and its tokenizer must be this model's"
            )
        if not 0 <= min(ids) <= max(ids) < fork.backbone.vocabulary:
            raise SamplerError(f"{self.setting.where}: token ids beyond the vocabulary; it serves another model")
        return ids, tuple(choice.values), ended

    def _check(
        self, fork: Fork, questions: Sequence[_Question], out: Sequence[Sequence[Sampled]], keys: Sequence[str]
    ) -> None:
        """Compute the log-probabilities of some outcomes here, too. Raises `SamplerError` if they differ."""
        places = [(i, j) for i, row in enumerate(out) for j in range(len(row))]
        order = torch.randperm(len(places), generator=generator("vllm check", list(keys))).tolist()
        some = [places[i] for i in order[: self.setting.check]]
        groups = []
        for i, j in some:
            ids, form = out[i][j][0], questions[i].form
            allowed = [fork.backbone.forms.allowed(form, ids)] if form else []
            groups.append(PrefixGroup(questions[i].prompt, [ids], allowed))
        bound = self.setting.bound or BOUNDS[fork.backbone.precision.dtype]
        with torch.no_grad():
            ours = [row[0] for row in fork.logprobs(groups)] if groups else []
        for (i, j), own in zip(some, ours, strict=True):
            apart = (own - torch.tensor(out[i][j][1])).abs()
            if not bool(apart.mean() <= bound and apart.max() <= SINGLE * bound):  # NaN is not below
                at = int(apart.nan_to_num(torch.inf).argmax())
                name = self._named.get(fork, self._base) if fork.trainable else self._base
                raise SamplerError(
                    f"{self.setting.where}: {name} gives token {at + 1} of an outcome the log-probability "
                    f"{out[i][j][1][at]:.4f}, and {fork.name!r} of {fork.backbone.name!r} here {float(own[at]):.4f}; "
                    f"in the mean over the outcome they differ by {float(apart.mean()):.4f} nats, and {bound:g} are "
                    f"allowed ({SINGLE} times that for one token). Serve the same weights and chat model, in the same "
                    "precision (--dtype), with --logprobs-mode raw_logprobs; or allow more: bound=0.05"
                    + (f". The outcome was held to the form {questions[i].form!r}" if questions[i].form else "")
                )

    def close(self) -> None:
        """Unload what was loaded, as far as the server is there, and remove the folders."""
        import openai

        if self._loaded:
            from anyio.from_thread import start_blocking_portal

            async def unload() -> None:
                key = os.environ.get(KEY, "").strip()
                async with self._client_class()(
                    api_key=key or "none", base_url=self.setting.url, timeout=10.0, max_retries=0,
                    http_client=wire.client(10.0),
                ) as client:  # fmt: skip
                    for name, folder in self._loaded.items():
                        shutil.rmtree(folder, ignore_errors=True)
                        try:
                            await client.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=str)
                        except (openai.OpenAIError, wire.WireError):
                            continue  # it is away: nothing is loaded there, or nobody can be told
                self._loaded.clear()

            with start_blocking_portal() as portal:
                portal.call(unload)
        if self._own is not None:
            self._own.cleanup()
            self._own = None

    def _client_class(self) -> type[openai.AsyncOpenAI]:
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise SamplerError(
                f"{self.setting.where}: needs the openai client; {bring('openai')}"
            ) from error
        return AsyncOpenAI
