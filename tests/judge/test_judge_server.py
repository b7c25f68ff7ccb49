"""A finished node behind HTTP: it says what it says in the process, to whoever has the token."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import uvicorn
from starlette.testclient import TestClient
from typer.testing import CliRunner

from rrm import Assistant, BoundedUser, Case, Finding, Group, Outcome, RRMError, train
from rrm.command import judge_commands
from rrm.command.cli import app
from rrm.core.errors import RunError
from rrm.core.validation import plant
from rrm.exchange.judge_server import Batcher, FullError, ServedNode, create_judge, forgetting, places
from rrm.loop.reopen import assistant_of
from rrm.models.reward import TextRewardModel
from rrm.view.web.security import Access
from rrm.view.web.serving import listen
from tests import toy
from tests.label.reviews import lines

TREE = toy.task(assistants=(toy.sub(locate=lambda case, outcome: {"even": (0, 2)}),),
                locate=lambda case, outcome: {"even": (0, 2)})  # fmt: skip
OUTCOMES = ["w3 w4", "w5 w6 w7", "w9"]
BODY = {"prompt": "w3 w4", "outcomes": OUTCOMES}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Assistant]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("judge") / "run"
    return out, train(TREE, BoundedUser(), "embedded", out)


@pytest.fixture(scope="module")
def node(trained: tuple[Path, Assistant]) -> ServedNode:
    whole = forgetting(assistant_of(trained[0], "toy", TREE))
    assert isinstance(whole.reward, TextRewardModel)
    return ServedNode("run", "toy", whole.reward, whole)


ACCESS = Access("a-token-of-some-length")
SENT = {"Authorization": f"Bearer {ACCESS.token}"}


@pytest.fixture
def client(node: ServedNode) -> Iterator[TestClient]:
    with TestClient(create_judge(node, ACCESS), base_url="http://127.0.0.1:8432", headers=SENT) as found:
        yield found


def test_a_node_opened_again_is_the_one_that_was_trained(trained: tuple[Path, Assistant]) -> None:
    out, before = trained
    again = assistant_of(out, "toy", TREE)
    assert again.version == before.version and again.helpers[0].version == before.helpers[0].version
    with pytest.raises(RunError, match="has no node 'toy/other'"):
        assistant_of(out, "toy/other", TREE)
    more = toy.task(assistants=(toy.sub(), toy.sub("other")))
    with pytest.raises(RunError, match="no node 'toy/other' as the tree has"):
        assistant_of(out, "toy", more)


def test_it_says_what_the_node_says(client: TestClient, trained: tuple[Path, Assistant]) -> None:
    before = trained[1]
    said = client.post("/judge", json={**BODY, "data": {"n": 1}}).json()
    assert before.reward is not None
    case = Case("w3 w4", {"n": 1})
    outcomes = tuple(map(Outcome, OUTCOMES))
    (seen,) = before.helpers[0].examine([Group(case, outcomes)])
    group = Group(case, outcomes, tuple((one,) for one in seen))
    (scores,) = before.reward.score([group])
    assert [one["mean"] for one in said["outcomes"]] == pytest.approx(scores.mean.tolist(), abs=1e-5)
    assert [one["std"] for one in said["outcomes"]] == pytest.approx(scores.std.tolist(), abs=1e-5)
    assert [one["assistance"][0]["text"] for one in said["outcomes"]] == [one.text for one in seen]
    findings = [f for one in said["outcomes"] for a in one["assistance"] for f in a["findings"]]
    assert findings and all(f["fact"] == "even" and f["spans"] == [[0, 2]] for f in findings)
    assert "prefers_first" not in said
    pair = client.post("/judge", json={**BODY, "outcomes": OUTCOMES[:2]}).json()
    turned = client.post("/judge", json={**BODY, "outcomes": OUTCOMES[1::-1]}).json()
    assert pair["prefers_first"] is None or pair["prefers_first"] == pytest.approx(1 - turned["prefers_first"])


def test_it_examines_outcomes_of_its_parent(trained: tuple[Path, Assistant], client: TestClient) -> None:
    out, before = trained
    whole = forgetting(assistant_of(out, "toy/sub", TREE))
    assert isinstance(whole.reward, TextRewardModel)
    below = ServedNode("run", "toy/sub", whole.reward, whole, plant(TREE))
    with TestClient(create_judge(below, ACCESS), base_url="http://127.0.0.1", headers=SENT) as found:
        said = found.post("/examine", json=BODY).json()
        assert found.get("/").json()["examines"]
    (seen,) = before.helpers[0].examine([Group(Case("w3 w4"), tuple(map(Outcome, OUTCOMES)))])
    assert [one["text"] for one in said["outcomes"]] == [one.text for one in seen]
    assert client.post("/examine", json=BODY).status_code == 404, "the root has no parent"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": f"Basic {ACCESS.token}"}, 401),
     ({**SENT, "Host": "elsewhere.example"}, 403), (SENT, 200)],
)  # fmt: skip
def test_only_with_the_token_and_under_its_name(node: ServedNode, headers: dict[str, str], status: int) -> None:
    with TestClient(create_judge(node, ACCESS), base_url="http://127.0.0.1:8432") as bare:
        for method, path in (("GET", "/"), ("POST", "/judge")):
            answer = bare.request(method, path, json=BODY, headers=headers)
            assert answer.status_code == status and "access-control-allow-origin" not in answer.headers
            assert ACCESS.token not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"), (b"{}", 400, "prompt"), (b'{"prompt": 1, "outcomes": ["a"]}', 400, "prompt"),
        (json.dumps({**BODY, "more": 1}).encode(), 400, "more"),
        (json.dumps({**BODY, "outcomes": []}).encode(), 400, "outcomes"),
        (json.dumps({**BODY, "outcomes": ["a"] * 65}).encode(), 400, "outcomes"),
        (json.dumps({**BODY, "outcomes": ["\ud800"]}).encode(), 400, ""),
        (json.dumps({**BODY, "outcomes": ["w3 " * 9000]}).encode(), 422, "long"),
        (b" " * (1 << 20) + b"{}", 413, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_said(client: TestClient, body: bytes, status: int, said: str) -> None:
    answer = client.post("/judge", content=body)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text


def test_what_waits_is_asked_together_and_nobody_fails_for_another() -> None:
    passes: list[int] = []
    go = threading.Event()

    def judge(groups: Sequence[Group]) -> list[dict[str, Any]]:
        passes.append(len(groups))
        go.wait(10)
        if any("bad" in group.case.prompt for group in groups):
            raise RRMError("bad text")
        if any("broken" in group.case.prompt for group in groups):
            raise KeyError("a mistake in the code")
        return [{"prompt": group.case.prompt} for group in groups]

    async def all_of(prompts: Sequence[str], batcher: Batcher) -> list[Any]:
        groups = [Group(Case(prompt), (Outcome("a"),)) for prompt in prompts]
        tasks = [asyncio.create_task(batcher.ask(judge, groups[0]))]
        while not passes:
            await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(batcher.ask(judge, group)) for group in groups[1:]]
        await asyncio.sleep(0)  # they run as far as they can
        with pytest.raises(FullError):
            await batcher.ask(judge, groups[0])
        go.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    prompts = ["first", "1", "2", "bad", "4", "broken", "6"]
    found = asyncio.run(all_of(prompts, Batcher(together=4, waiting=6)))
    said = [one["prompt"] if isinstance(one, dict) else type(one).__name__ for one in found]
    assert said == ["first", "1", "2", "RRMError", "4", "HTTPException", "6"]
    assert passes == [1, 4, 1, 1, 1, 1, 2, 1, 1]


def test_what_is_asked_leaves_no_masks(client: TestClient, node: ServedNode) -> None:
    forms = node.reward.backbone.forms
    for status, prompt in ((200, "w3"), (422, "w3 " * 9000)):
        assert forms.number(b"\1" * forms._size) == 1 and len(forms._masks) == 2  # as a pass leaves it
        assert client.post("/judge", json={**BODY, "prompt": prompt}).status_code == status
        assert len(forms._masks) == 1


def test_the_command_scores_a_file_and_says_who_was_not_asked(trained: tuple[Path, Assistant], tmp_path: Path) -> None:
    rows = [{"prompt": f"w{i}", "chosen": f"w{i} w5 w6", "rejected": "w3"} for i in range(3, 6)]
    file = lines(tmp_path / "rows.jsonl", rows)
    done = CliRunner().invoke(app, ["score", str(trained[0]), "toy", str(file), "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0 and "knows 1 assistants" in done.output.replace("\n", " "), done.output
    whole = json.loads((tmp_path / "out.json").read_text())["parts"][0]
    found = {line["name"]: line["right"] for line in whole["lines"]}
    assert found["the longer"]["mean"] == 1.0 and found["the node"]["n"] == 3
    done = CliRunner().invoke(app, ["serve", str(trained[0]), "elsewhere"])
    assert done.exit_code == 2 and "its nodes: toy/sub, toy" in done.output.lower()
    done = CliRunner().invoke(app, ["serve", str(trained[0]), "toy", "--host", "0.0.0.0"])
    assert done.exit_code == 2 and "--token" in done.output


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(
    trained: tuple[Path, Assistant], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(judge_commands, "_served", lambda *given: loaded.append(given))
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["serve", str(trained[0]), "toy", "--port", port])
    assert done.exit_code == 2 and f"127.0.0.1:{port}" in done.output and not loaded


def test_over_a_socket(node: ServedNode) -> None:
    """As `rrm serve` does it, with a client of its own."""
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_judge(node, ACCESS), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/judge"
        one = httpx2.post(url, json=BODY, headers=SENT, timeout=20)
        other = httpx2.post(url, json=BODY, timeout=20)
    finally:
        server.should_exit = True
        thread.join()
    assert (one.status_code, len(one.json()["outcomes"]), other.status_code) == (200, 3, 401)


def test_a_quoted_word_is_a_place() -> None:
    text = 'He wrote "teh" cat'
    assert places(Finding("spelling", False, note='"teh" is no word'), text, {}) == [(10, 13)]
    assert places(Finding("step", False, 2), text, {"step.2": (3, 8), "step": (0, 18)}) == [(3, 8)]
    assert places(Finding("grammar", True), text, {}) == []


def test_the_request_that_is_shown_is_answered_as_it_stands(trained: tuple[Path, Assistant]) -> None:
    """With the data that assistants may need: it is a pair of the run's own, of the node that was asked for."""
    for path in ("toy", "toy/sub"):
        whole = forgetting(assistant_of(trained[0], path, TREE))
        assert isinstance(whole.reward, TextRewardModel)
        served = ServedNode("run", path, whole.reward, whole, TREE if path != "toy" else None)
        with TestClient(create_judge(served, ACCESS), base_url="http://127.0.0.1:8432", headers=SENT) as client:
            asked = judge_commands._request(trained[0], path)
            said = client.post("/judge", json=asked)
        assert said.status_code == 200, said.text
        assert len(said.json()["outcomes"]) == 2 and "..." not in json.dumps(asked)
    assert judge_commands._request(trained[0], "toy/none")["prompt"] == "..."
