"""A real vLLM server with a tiny model: two nodes, adapters that rotate, forms, and a kill in mid-run.

`make vllm` installs one beside ours and runs this; elsewhere: RRM_VLLM=PYTHON, of an environment that has vLLM.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rrm import BoundedUser, Case, Outcome, Pool, Task, train
from rrm.exchange.agent_export import write_agent
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.endpoints import Ask, Endpoint
from rrm.models.vllm_sampler import SamplerError, VLLMSampler, VLLMSetting
from rrm.store.journal import Journal
from scripts.bench_vllm import serving
from tests import toy
from tests.models.test_form import LINES, VERDICT, letters

PYTHON = os.environ.get("RRM_VLLM", "")
pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(1800),
    pytest.mark.skipif(not PYTHON, reason="needs a vLLM: make vllm, or RRM_VLLM=its Python"),
]  # fmt: skip
CASES = [Case("a case"), Case("held to a form", form=VERDICT), Case("to another", form=LINES), Case("a case")]
WORDS = r"[a-e]{1,3}( [a-e]{1,3}){1,3}"
SMALL = toy.SMALL.model_copy(update={"max_tokens": 24, "rounds": 2, "outcomes": 3, "batch": 3, "group": 4})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 0.3 M parameters with a byte-level tokenizer, and heads as wide as vLLM has kernels for."""
    folder, tokenizer = tmp_path_factory.mktemp("model"), letters()
    config = LlamaConfig(
        hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=0.1, bos_token_id=1, eos_token_id=0,
        pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


class Real:
    """A server that can be killed and started again at its address."""

    def __init__(self, model: Path, log: Path) -> None:
        self.model, self.log, self.port = str(model), log, 0
        self._stack = ExitStack()
        self.url = ""

    def start(self) -> None:
        self.url = self._stack.enter_context(
            serving(PYTHON, self.model, self.port, self.log, signal.SIGKILL)
        )
        self.port = int(self.url.split(":")[2].split("/")[0])

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    it = Real(model, tmp_path_factory.mktemp("log") / "vllm.log")
    it.start()
    yield it
    it.stop()


def moved(agent: TextAgent, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in agent.fork.trainable.items():
            if "lora_B" in key:
                parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.1)


def test_adapters_rotate_and_every_log_probability_is_ours(server: Real, model: Path) -> None:
    backbone = Backbone.load(str(model), "lora", device="cpu")
    backbone.sampler = sampler = VLLMSampler(VLLMSetting(server.url, check=1000, bound=1e-4, adapters=2))
    agents = [TextAgent(backbone, backbone.fork(name), 24) for name in ("one", "two", "three")]
    start = TextAgent(backbone, backbone.start, 24)
    for turn in range(3):
        for number, agent in enumerate([*agents, start]):
            groups = agent.sample(CASES, 4, f"turn {turn}")  # a SamplerError if any differs
            for group in groups:
                for outcome in group.outcomes:
                    assert outcome.finished or len(outcome.tokens) == 24
                    if group.case.form and outcome.finished:
                        assert re.fullmatch(group.case.form, outcome.text), outcome.text
            assert any(o.finished for o in groups[1].outcomes)
            if agent is not start:
                moved(agent, 10 * turn + number)
    greedy = agents[0].sample(CASES, 1, "greedy", greedy=True)
    sampler.close()
    backbone.sampler = None
    own = agents[0].sample(CASES, 1, "greedy", greedy=True)
    assert [g.outcomes[0].tokens for g in greedy] == [g.outcomes[0].tokens for g in own]
    backbone.sampler = VLLMSampler(VLLMSetting(server.url, bound=1e-7))
    with pytest.raises(SamplerError, match="in the mean over the outcome they differ by"):
        agents[0].sample(CASES, 8, "no two engines are alike to the last bit")


def test_a_form_goes_over_the_wire_to_an_endpoint(server: Real) -> None:
    there = Endpoint(base_url=server.url, model="base", forms="vllm")
    replies = there.ask([Ask("say it", 24, 1.0, seed, form=VERDICT) for seed in range(4)], "agent", "t")
    assert any(reply.finished for reply in replies)  # each that is was looked at: `Endpoint._formed`


def tree() -> Task:
    """Two nodes whose outcomes have their form whatever the model can."""
    cases = Pool(tuple(Case(f"words for {i}", form=WORDS) for i in range(8)))

    def frame(case: Case, outcome: Outcome) -> list[Case]:
        return [Case(f"words of {outcome.text}", {"of": case.id}, form=WORDS)]

    below = toy.sub(frame=frame, settings=SMALL)
    return toy.task(cases=cases, settings=SMALL, assistants=(below,))


def test_two_nodes_are_trained_through_a_kill(server: Real, model: Path, tmp_path: Path) -> None:
    """Killed when the second node improves its agent, and started again while that waits; then the process is
    interrupted, and the run goes on where it was."""
    killed: list[str] = []

    def watch(node: object, event: object) -> None:
        at = f"{node.task.path} {event.phase}"  # type: ignore[attr-defined]
        if at == "toy improve" and not killed:
            killed.append(at)
            server.stop()
            threading.Thread(target=server.start).start()
        if at == "toy done":
            raise KeyboardInterrupt

    address = f"vllm:{server.url},check=2,bound=0.0005"
    with pytest.raises(KeyboardInterrupt):
        train(tree(), BoundedUser(), str(model), tmp_path / "run", watch=[watch], sampler=address)
    assert killed
    before = _judged(tmp_path / "run")
    root = train(tree(), BoundedUser(), str(model), tmp_path / "run", sampler=address)
    after = _judged(tmp_path / "run")
    assert before and after[: len(before)] == before and len(after) > len(before)
    assert [helper.task.path for helper in root.helpers] == ["toy/sub"]


def _judged(folder: Path) -> list[str]:
    journal = Journal(folder)
    try:
        found = [comparison for path in ("toy/sub", "toy") for comparison in journal.comparisons(path)]
    finally:
        journal.close()
    assert all(re.fullmatch(WORDS, o.text) for c in found for o in (c.pair.a, c.pair.b) if o.finished)
    return [f"{one.round} {one.pair.id}" for one in found]


def alike(said: str | None, own: str) -> bool:
    """Up to the first byte that is no text: of what follows servers make what they like."""
    return bool(own.split("\ufffd")[0]) and (said or "").strip().startswith(own.split("\ufffd")[0])


@pytest.mark.parametrize("merged", [False, True])
def test_it_loads_an_exported_agent_that_answers_as_it_did(
    server: Real, model: Path, tmp_path: Path, merged: bool
) -> None:
    """The adapter into the server that runs; the whole model into one of its own."""
    agent = TextAgent((backbone := Backbone.load(str(model), "lora", device="cpu")), backbone.fork("out"), 24)
    moved(agent, 5)
    (group,) = agent.sample([Case("a case")], 1, "k", greedy=True)
    folder = tmp_path / "agent"
    write_agent(agent, "out", [group], folder, lambda done: "", merged)
    with ExitStack() as stack:
        url = stack.enter_context(serving(PYTHON, str(folder), 0, tmp_path / "log")) if merged else server.url
        client = stack.enter_context(openai.OpenAI(base_url=url, api_key="none"))
        if not merged:
            client.post("/load_lora_adapter", body={"lora_name": "out", "lora_path": str(folder)}, cast_to=str)
        name = client.models.list().data[0].id if merged else "out"
        turns: Any = [{"role": "user", "content": "a case"}]
        said = client.chat.completions.create(model=name, messages=turns, temperature=0, max_tokens=24)
    assert alike(said.choices[0].message.content, group.outcomes[0].text)


def test_transformers_serves_an_exported_agent_too(model: Path, tmp_path: Path) -> None:
    """Without vLLM; here since a server takes a while to start."""
    agent = TextAgent((backbone := Backbone.load(str(model), "lora", device="cpu")), backbone.fork("out"), 24)
    moved(agent, 5)
    (group,) = agent.sample([Case("a case")], 1, "k", greedy=True)
    folder = tmp_path / "agent"
    write_agent(agent, "out", [group], folder, lambda done: "", True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    serve = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    server = subprocess.Popen([*serve, "--port", port], env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            assert server.poll() is None
            time.sleep(0.2)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            turns: Any = [{"role": "user", "content": "a case"}]
            said = client.chat.completions.create(model=str(folder), messages=turns, temperature=0, max_tokens=24)
    finally:
        server.terminate()
        server.wait(30)
    assert alike(said.choices[0].message.content, group.outcomes[0].text)
