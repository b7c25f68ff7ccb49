"""A server that keeps vLLM's protocol and samples with our own model: adapters come, go, and are lost at a restart."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rrm.models.backbone import Backbone
from rrm.models.fork import Fork
from rrm.models.sampling import sample
from rrm.models.weights import hash_tensors
from tests.endpoint.serving import error

BASE = "base"


@dataclass
class PretendedVLLM:
    """What a test looks at: every request, and which adapters came and went.

    Its prefix cache is by name, and outlives an adapter: one that is loaded under a name that other weights had is
    answered with those.
    """

    backbone: Backbone
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    loads: list[tuple[str, str]] = field(default_factory=list)
    """(name, hash of its weights), in order."""
    unloads: list[str] = field(default_factory=list)
    adapters: dict[str, Fork] = field(default_factory=dict)
    most: int = 0
    """Adapters there at once."""
    shift: float = 0.0
    """Added to every log-probability that it gives."""
    fails: list[Response] = field(default_factory=list)
    """Given instead of the next samples, one each."""
    _cache: dict[str, dict[str, Any]] = field(default_factory=dict)
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def models(self, request: Request) -> Response:
        names = [{"id": BASE, "object": "model", "parent": None}]
        names += [{"id": name, "object": "model", "parent": BASE} for name in self.adapters]
        return JSONResponse({"object": "list", "data": names})

    async def load(self, request: Request) -> Response:
        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (folder / "adapter_config.json").is_file():
            return error(404, f"Loading lora {name} failed: No adapter found for {folder}")
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"], config["peft_type"]) == (16, 32, "LORA")
        state = load_file(folder / "adapter_model.safetensors")
        state = {key.removeprefix("base_model.model."): value for key, value in state.items()}
        assert {key.split(".lora_")[0].rsplit(".", 1)[1] for key in state} == set(config["target_modules"])
        self.loads.append((name, hash_tensors(sorted(state.items()))))
        fork = self.backbone.fork(name)
        fork.load(self._cache.setdefault(name, state))
        self.adapters[name] = fork
        self.most = max(self.most, len(self.adapters))
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if name not in self.adapters:
            return error(404, f"The lora adapter '{name}' cannot be found.")
        self.adapters.pop(name).close()
        self.unloads.append(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if self.fails:
            return self.fails.pop(0)
        name = body["model"]
        if name != BASE and name not in self.adapters:
            return error(404, f"The model `{name}` does not exist.")
        fork = self.backbone.start if name == BASE else self.adapters[name]
        (rows,) = sample(
            fork, [body["prompt"]], body["n"], body["max_tokens"], body["temperature"] or 1.0, [str(body["seed"])],
            body["stop_token_ids"], body["temperature"] == 0, [body.get("structured_outputs", {}).get("regex", "")],
        )  # fmt: skip
        choices = [
            {
                "index": i, "text": "", "token_ids": list(ids), "prompt_token_ids": body["prompt"],
                "logprobs": {"token_logprobs": [min(0.0, value + self.shift) for value in values], "tokens": []},
                "finish_reason": "stop" if ended else "length", "stop_reason": ids[-1] if ended else None,
            }
            for i, (ids, values, ended) in enumerate(rows)
        ]  # fmt: skip
        return JSONResponse({"id": "x", "object": "text_completion", "model": name, "choices": choices[::-1]})

    def start(self) -> None:
        """On the port that it had before, if it was there before."""
        app = Starlette(routes=[
            Route("/v1/models", self.models), Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
        ])  # fmt: skip
        bound = socket.create_server(("127.0.0.1", self.port))
        self.port = bound.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [bound]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        """And forget what was loaded, and what was cached."""
        assert self._server is not None and self._thread is not None
        self._server.should_exit = True
        self._thread.join(timeout=10)
        for fork in self.adapters.values():
            fork.close()
        self.adapters.clear()
        self._cache.clear()


@contextmanager
def pretending(backbone: Backbone) -> Iterator[PretendedVLLM]:
    """A server in a thread, on a free port of loopback, with a model of its own."""
    server = PretendedVLLM(backbone)
    server.start()
    try:
        yield server
    finally:
        server.stop()
