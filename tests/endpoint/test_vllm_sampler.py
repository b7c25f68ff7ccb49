"""Sampling by an engine: what is asked of it, what its answers become, adapters that come and go, and a server that
does not last."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from starlette.responses import JSONResponse, PlainTextResponse

pytest.importorskip("openai", reason="needs the openai client: pip install -e '.[openai]'")

from typer.testing import CliRunner

from rrm import BoundedUser, Case, Settings, Task, train
from rrm.command.cli import app
from rrm.core.errors import ConfigError, ModelError, Notice, RunError
from rrm.core.records import Group
from rrm.core.seeding import generator
from rrm.learning.text_maker import TextMaker, TextPolicy
from rrm.loop.recipe import Recipe
from rrm.loop.training import maker_of
from rrm.models import vllm_sampler
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.vllm_sampler import SamplerError, VLLMSampler, VLLMSetting
from rrm.store.journal import Journal
from rrm_assistants import writing
from rrm_tasks.paper import paper
from tests.endpoint.pretended_vllm import BASE, PretendedVLLM, pretending
from tests.endpoint.serving import error
from tests.models.test_form import LINES, VERDICT, lettered

CASES = [Case("a case"), Case("another"), Case("held to a form", form=VERDICT), Case("a case")]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    from openai import _base_client

    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY"):
        monkeypatch.setattr(_base_client, name, 0.01)
    monkeypatch.setattr(vllm_sampler, "PAUSE", 0.02)


@pytest.fixture
def server() -> Iterator[PretendedVLLM]:
    with pretending(lettered("lora")) as it:
        yield it


def agent(server: PretendedVLLM, name: str = "one", backbone: Backbone | None = None, **changes: object) -> TextAgent:
    """An agent that the server samples as, of a backbone of its own unless one is given; its adapter does something."""
    if backbone is None:
        backbone = lettered("lora")
        setting = VLLMSetting(server.url, check=100, patience=5.0)
        backbone.sampler = VLLMSampler(replace(setting, **changes))  # type: ignore[arg-type]
    made = TextAgent(backbone, backbone.fork(name), 12)
    trained(made)
    return made


def trained(one: TextAgent) -> None:
    """Other weights, the same in every process."""
    drawn = generator("trained", one.version)
    with torch.no_grad():
        for key, parameter in one.fork.trainable.items():
            if "lora_B" in key:
                parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.1)


def sampler_of(one: TextAgent) -> VLLMSampler:
    assert isinstance(one.backbone.sampler, VLLMSampler)
    return one.backbone.sampler


def apart(one: TextAgent, groups: list[Group]) -> float:
    """Nats by which the log-probabilities that were kept differ from the agent's own."""
    ours = one.logprobs(groups)
    return max(float((v - torch.tensor(o.logprobs)).abs().max())
               for g, row in zip(groups, ours, strict=True) for o, v in zip(g.outcomes, row, strict=True))  # fmt: skip


# --- what is asked, and what comes of it ------------------------------------------------------------


def test_outcomes_are_the_agents_with_its_tokens_log_probabilities_and_forms(server: PretendedVLLM) -> None:
    one = agent(server)
    groups = one.sample(CASES, 5, "k")
    assert [group.case for group in groups] == CASES and {len(group.outcomes) for group in groups} == {5}
    assert apart(one, groups) < 1e-4
    for outcome in groups[2].outcomes:
        assert re.fullmatch(VERDICT, outcome.text) and outcome.finished
    for outcome in (outcome for group in groups for outcome in group.outcomes):
        assert outcome.finished == (outcome.tokens[-1] in one.backbone.ends)
        assert outcome.finished or len(outcome.tokens) == 12
    assert {outcome.finished for group in groups for outcome in group.outcomes} == {True, False}
    assert groups[0].outcomes != groups[3].outcomes, "a case that comes twice gets others the second time"
    assert not one.repeatable


def test_what_is_asked_leaves_nothing_to_the_servers_defaults(server: PretendedVLLM) -> None:
    one = agent(server)
    one.sample(CASES, 3, "k", temperature=0.7)
    asked = sorted(server.bodies, key=lambda body: body["seed"])
    assert {tuple(body["prompt"]) for body in asked} == {one.backbone.render(case.prompt) for case in CASES}
    for body in asked:
        assert body["model"] == f"rrm-{one.version}" and body["n"] == 3 and body["temperature"] == 0.7
        assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)
        assert body["ignore_eos"] and body["stop_token_ids"] == sorted(one.backbone.ends)
        assert body["return_token_ids"] and body["logprobs"] == 0 and body["max_tokens"] == 12
    assert [b["structured_outputs"] for b in asked if "structured_outputs" in b] == [{"regex": VERDICT}]
    seeds = [body["seed"] for body in asked]
    assert len({*seeds}) == len(CASES)
    one.sample(CASES, 3, "k")
    assert sorted(body["seed"] for body in server.bodies[len(CASES) :]) == seeds, "of named streams"
    one.sample(CASES, 3, "other")
    assert not {*seeds} & {body["seed"] for body in server.bodies[2 * len(CASES) :]}


def test_greedy_outcomes_are_our_own(server: PretendedVLLM) -> None:
    one = agent(server)
    cases = [*CASES[:2], Case("lines", form=LINES)]
    served = one.sample(cases, 2, "k", greedy=True)
    one.backbone.sampler = None
    own = one.sample(cases, 2, "k", greedy=True)
    assert [[o.tokens for o in g.outcomes] for g in served] == [[o.tokens for o in g.outcomes] for g in own]
    assert {body["temperature"] for body in server.bodies} == {0.0} and {body["n"] for body in server.bodies} == {1}


def test_the_starting_model_is_the_base(server: PretendedVLLM) -> None:
    one = agent(server)
    start = TextAgent(one.backbone, one.backbone.start, 12)
    assert apart(start, start.sample(CASES, 2, "k")) < 1e-4
    assert {body["model"] for body in server.bodies} == {BASE} and not server.loads


# --- adapters ---------------------------------------------------------------------------------------


def test_adapters_rotate_under_the_names_of_their_content(server: PretendedVLLM) -> None:
    """Two agents, each trained between its samples, and once put back: what it was is no other content."""
    one = agent(server)
    other = agent(server, "other", one.backbone)
    before = one.state()
    for turn in range(4):
        for each in (one, other):
            assert apart(each, each.sample(CASES, 2, f"k{turn}")) < 1e-4
        trained(one)
        trained(other)
    one.load(before)
    assert apart(one, one.sample(CASES, 2, "back")) < 1e-4
    assert len({weights for _, weights in server.loads}) == len({name for name, _ in server.loads}) == 8
    assert len({*server.loads}) == 8, "no name has had two contents"
    assert server.most <= 3 and len(server.unloads) == 7
    sampler_of(one).close()
    assert not server.adapters


def test_no_more_adapters_stay_than_are_asked_for(server: PretendedVLLM) -> None:
    one = agent(server, adapters=2)
    several = [one, *(agent(server, name, one.backbone) for name in "abcd")]
    for each in [*several, *several]:
        assert apart(each, each.sample(CASES[:1], 2, "k")) < 1e-4
    assert len(server.adapters) == 2 and server.most <= 3


def test_an_adapters_folder_is_there_as_long_as_it_is_loaded(server: PretendedVLLM, tmp_path: Path) -> None:
    one = agent(server, folder=str(tmp_path / "adapters"))
    one.sample(CASES, 2, "k")
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [f"rrm-{one.version}"]
    trained(one)
    one.sample(CASES, 2, "k")
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [f"rrm-{one.version}"]
    sampler_of(one).close()
    assert not [*(tmp_path / "adapters").iterdir()]


def test_peft_reads_the_adapter_as_we_do(server: PretendedVLLM, tmp_path: Path) -> None:
    from peft import PeftModel

    from rrm.models.peft_folder import write_adapter

    one = agent(server)
    write_adapter(one.fork, tmp_path / "adapter")
    model = PeftModel.from_pretrained(lettered().model, str(tmp_path / "adapter")).eval()
    ids = torch.tensor([one.backbone.render("a case")])
    with torch.no_grad():
        theirs = model(input_ids=ids).logits[0, -1]
        with one.fork.exclusive():
            ours = one.fork.network(input_ids=ids).logits[0, -1]
    assert torch.allclose(theirs, ours, atol=1e-4)
    with pytest.raises(ModelError, match="is no adapter"):
        write_adapter(one.backbone.start, tmp_path / "none")


# --- a server that does not last, or does wrong -----------------------------------------------------


def test_a_server_that_was_started_again_gets_the_adapters_again(server: PretendedVLLM) -> None:
    one = agent(server)
    other = agent(server, "other", one.backbone)
    one.sample(CASES, 2, "k")
    other.sample(CASES, 2, "k")
    server.stop()
    late = threading.Timer(0.5, server.start)
    late.start()
    with pytest.warns(Notice, match="does not answer; it is waited for, up to 5 s") as said:
        groups = one.sample(CASES, 3, "later")  # asked while it is away
    late.join()
    assert len([one for one in said if one.category is Notice]) < 4, "not at each of some hundred tries"
    assert apart(one, groups) < 1e-4 and [len(group.outcomes) for group in groups] == [3] * 4
    assert apart(other, other.sample(CASES, 2, "later")) < 1e-4
    assert [name for name, _ in server.loads].count(f"rrm-{one.version}") == 2


def test_a_process_that_was_started_again_finds_its_adapters_there(server: PretendedVLLM) -> None:
    one = agent(server)
    one.sample(CASES, 2, "k")
    again = agent(server, "one")
    again.load(one.state())
    assert again.version == one.version
    assert apart(again, again.sample(CASES, 2, "k")) < 1e-4 and len(server.loads) == 1


def test_a_server_that_stays_away_is_an_error_after_a_while(server: PretendedVLLM) -> None:
    one = agent(server, patience=0.2)
    server.stop()
    try:
        with pytest.raises(SamplerError, match=r"vllm:http.*cannot be reached for 0.2 s; is the server running"):
            one.sample(CASES, 2, "k")
    finally:
        server.start()


def test_other_log_probabilities_than_ours_are_an_error_that_names_both(server: PretendedVLLM) -> None:
    one = agent(server, check=1)
    server.shift = -0.003
    with pytest.raises(SamplerError, match=rf"rrm-{one.version} gives token .* 'one' of 'letters' here.*bound=0.05"):
        one.sample(CASES, 2, "k")
    server.shift = -0.001
    one.sample(CASES, 2, "k")
    agent(server, check=1, bound=0.01).sample(CASES, 2, "k")
    server.shift = -0.02
    agent(server, check=0).sample(CASES, 2, "k")
    with pytest.raises(SamplerError, match=r"0\.01 are allowed"):
        agent(server, check=1, bound=0.01).sample(CASES, 2, "k")


def test_a_server_that_samples_from_another_policy_is_an_error(server: PretendedVLLM) -> None:
    one = agent(server)
    one.sample(CASES, 1, "k")
    trained(TextAgent(server.backbone, server.adapters[f"rrm-{one.version}"], 12))  # as if from a stale cache
    with pytest.raises(SamplerError, match="in the mean over the outcome they differ by"):
        one.sample(CASES, 1, "other")


GOOD = {"index": 0, "token_ids": [5, 0], "logprobs": {"token_logprobs": [-1.0, -1.0]}}


@pytest.mark.parametrize(
    "choice",
    [
        GOOD | {"token_ids": None}, GOOD | {"token_ids": [5]}, GOOD | {"logprobs": None}, GOOD | {"index": 1},
        GOOD | {"logprobs": {"token_logprobs": [None, -1.0]}}, GOOD | {"prompt_token_ids": [1]},
        GOOD | {"logprobs": {"token_logprobs": [0.5, -1.0]}}, GOOD | {"token_ids": []},
    ],
    ids=["no ids", "fewer ids", "no logprobs", "index", "null", "another prompt", "above 1", "empty"],
)  # fmt: skip
def test_what_is_no_sample_is_asked_for_again_and_then_an_error(server: PretendedVLLM, choice: dict) -> None:
    one = agent(server)
    server.fails = [JSONResponse({"choices": [choice]})]
    assert apart(one, one.sample(CASES[:1], 1, "k")) < 1e-4
    server.fails = [JSONResponse({"choices": [choice]})] * 4
    with pytest.raises(SamplerError, match="in 4 tries, what came back was no sample"):
        one.sample(CASES[:1], 1, "k")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [([5, 0, 5], "goes on after its end at 2"), ([5] * 3, "has no end"), ([5] * 13, "13 tokens, of at most 12"),
     ([9999, 0], "beyond the vocabulary")],
)  # fmt: skip
def test_an_outcome_that_ends_otherwise_than_ours_is_an_error(server: PretendedVLLM, tokens: list, said: str) -> None:
    one = agent(server)
    choice = {"index": 0, "token_ids": tokens, "logprobs": {"token_logprobs": [-1.0] * len(tokens)}}
    server.fails = [JSONResponse({"choices": [choice]})]
    with pytest.raises(SamplerError, match=said):
        one.sample(CASES[:1], 1, "k")


def test_passing_faults_are_tried_again_and_refusals_are_said(server: PretendedVLLM) -> None:
    one = agent(server)
    server.fails = [error(500, "oops"), error(503, "loading"), error(429, "slow down"), PlainTextResponse("page")]
    assert apart(one, one.sample(CASES, 2, "k")) < 1e-4
    server.fails = [error(400, "this model's maximum context length is 8 tokens")]
    with pytest.raises(SamplerError, match=r"refuses to sample.*maximum context length is 8"):
        one.sample(CASES, 2, "k")


def test_an_adapter_that_cannot_be_loaded_says_what_the_server_needs(
    server: PretendedVLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = agent(server)
    monkeypatch.setattr(vllm_sampler, "write_adapter", lambda fork, folder: None)
    with pytest.raises(SamplerError, match=r"VLLM_ALLOW_RUNTIME_LORA_UPDATING.*--enable-lora"):
        one.sample(CASES, 2, "k")


# --- settings ---------------------------------------------------------------------------------------


def test_settings_are_read_strictly() -> None:
    read = VLLMSetting.read("vllm:http://h:1/v1,check=2,bound=0.1,folder=/shared/x,patience=3")
    assert read == VLLMSetting("http://h:1/v1", 2, 0.1, folder="/shared/x", patience=3.0)
    for text, said in (
        ("own", "give own, or vllm:URL"), ("vllm:", "such as vllm:http"), ("vllm:http://u:p@h/v1", "give own"),
        ("sglang:http://h", "give own"), ("vllm:http://h/v1,chek=1", "'check'|check"),
        ("vllm:http://h/v1,check=x", "check=x is no number"), ("vllm:http://h/v1,adapters=0", "give 1 or more"),
        ("vllm:http://h/v1,bound=nan", "give 0 or more"), ("vllm:http://h/v1,timeout=0", "more than 0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            VLLMSetting.read(text)


def test_a_model_that_is_copied_for_each_agent_is_refused(server: PretendedVLLM) -> None:
    with pytest.raises(ModelError, match="adapters='lora'"):
        lettered().sampler = VLLMSampler(VLLMSetting(server.url))


def test_a_worker_samples_by_the_same_server() -> None:
    backbone = Backbone.load("embedded", "lora")
    backbone.sampler = VLLMSampler(VLLMSetting("http://h/v1", check=1))
    made = Recipe.of(backbone, maker_of).make().backbone  # type: ignore[attr-defined]
    assert isinstance(made.sampler, VLLMSampler) and made.sampler.setting == VLLMSetting("http://h/v1", check=1)
    assert made.adapters == "lora"


# --- whole runs -------------------------------------------------------------------------------------

SMALL = Settings(
    rounds=1, cases=4, outcomes=2, comparisons=4, steps=2, batch=2, group=2, reward_epochs=1, frame_cases=2, accept=2,
    max_tokens=96,
)  # fmt: skip


def small() -> Task:
    """Two nodes."""
    short = replace(writing(), settings=SMALL.model_copy(update={"max_tokens": 16}))
    return replace(paper(settings=SMALL), assistants=(short,))


def _judged(folder: Path) -> list[str]:
    journal = Journal(folder)
    try:
        found = [f"{c.round} {c.pair.id}" for path in ("paper/writing", "paper") for c in journal.comparisons(path)]
    finally:
        journal.close()
    return found


def test_a_tree_is_trained_by_a_server_that_is_killed_and_by_a_process_that_is(tmp_path: Path) -> None:
    """The server goes when the second node samples and comes back without adapters; the process goes when that node's
    reward model is fitted, and finds the judged outcomes again, which nobody could sample again."""
    with pretending(Backbone.load("embedded", "lora")) as server:
        address = f"vllm:{server.url},check=2"
        seen: list[str] = []

        def watch(node: object, event: object) -> None:
            at = f"{node.task.path} {event.phase}"  # type: ignore[attr-defined]
            if at == "paper sample" and at not in seen:
                server.stop()
                threading.Timer(0.3, server.start).start()
            seen.append(at)
            if at == "paper fit":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(small(), BoundedUser(), "embedded", tmp_path / "run", watch=[watch], sampler=address)
        before = _judged(tmp_path / "run")
        assert before and not server.adapters, "what was loaded is unloaded, whatever ended the run"
        root = train(small(), BoundedUser(), "embedded", tmp_path / "run", sampler=address)
        after = _judged(tmp_path / "run")
        assert after[: len(before)] == before, "nothing was judged again, nor lost"
        assert root.helpers[0].task.path == "paper/writing"
        assert len({*server.loads}) == len({name for name, _ in server.loads}) > 4
        with pytest.raises(RunError, match=r'model\.sampler: "vllm" there, nothing now'):
            train(small(), BoundedUser(), Backbone.load("embedded", "lora"), tmp_path / "run")


def test_the_command_line_takes_it_and_refuses_what_it_is_not(tmp_path: Path) -> None:
    for words, said in (
        (["--sampler", "sglang:http://h"], "give own, or vllm:URL"),
        (["--sampler", "vllm:http://h/v1", "--model", "ppo"], "it samples from language models"),
    ):
        told = CliRunner().invoke(app, ["train", "paper", "--quiet", "--out", str(tmp_path / "run"), *words])
        assert told.exit_code == 2 and said in " ".join(told.output.split()), told.output
        assert not (tmp_path / "run").exists()


def test_the_engine_is_a_models_only_while_it_trains_and_a_maker_stays_who_it_is(tmp_path: Path) -> None:
    class Mine(TextMaker):
        """Somebody's own."""

        asked = 0

        def policy(self, task: Task, seed: int) -> TextPolicy:
            self.asked += 1
            assert isinstance(self.backbone.sampler, VLLMSampler)
            return super().policy(task, seed)

    with pretending(Backbone.load("embedded", "lora")) as server:
        mine, tree = Mine(Backbone.load("embedded", "lora")), small()
        root = train(tree, BoundedUser(), mine, tmp_path / "run", sampler=f"vllm:{server.url}")
        assert mine.asked == 2 and mine.backbone.sampler is None and not server.adapters
        asked = len(server.bodies)
        assert root.agent.repeatable and root.agent.sample([Case("a case")], 1, "k") and len(server.bodies) == asked
        mine.backbone.sampler = copy.copy(VLLMSampler(VLLMSetting(server.url)))
        with pytest.raises(ConfigError, match="has a sampler already"):
            train(tree, BoundedUser(), mine, tmp_path / "run", sampler=f"vllm:{server.url}")
