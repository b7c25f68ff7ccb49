"""A model behind an endpoint as the user of a run, and as an agent: what is judged, kept, resumed and shown."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

pytest.importorskip("openai", reason="needs the openai client: pip install -e '.[openai]'")

from typer.testing import CliRunner

from rrm import Assistance, Assistant, BoundedUser, Case, Group, Outcome, Pair, Task, train
from rrm.command.cli import app
from rrm.core.remarks import Kind
from rrm.models.backbone import Backbone
from rrm.models.endpoint_agent import EndpointAgent
from rrm.models.endpoints import EndpointError, Ledger
from rrm.models.replies import Reply
from rrm.store.store import Store
from rrm.users.endpoint import EndpointUser, chance, verdict
from rrm.users.pairwise import remark_of
from rrm.view.reading import Reader
from tests import forked, toy
from tests.endpoint.serving import Server, completion, error, longer, serving
from tests.endpoint.test_endpoint import CANARY
from tests.endpoint.training import run
from tests.forked import Forked
from tests.models.conftest import network, tokenizer

ROOT = Path(__file__).parent.parent.parent
TASK = Task("t", "Which is longer?", facts=lambda case, outcome: [])


def user(server: Server, **changes: Any) -> EndpointUser:
    return EndpointUser(**({"base_url": server.url, "model": "m", "retries": 0} | changes))


def pair(i: int) -> Pair:
    return Pair("t", Case(f"case {i}"), Outcome("word " * (i + 2)), Outcome("word " * (5 - i)))


# --- reading a judge ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), (" B.", "B"), ("**A**", "A"), ('"B"', "B"), ("(A)", "A"), ("B\n", "B"), ("A: it is shorter", "A"),
        ("The better one is B.", "B"), ("Answer: A", "A"), ("I prefer outcome B, since A is vague", "B"),
        ("My answer is **A**", "A"), ("option B", "B"), ("B) the second", "B"),
        ("", None), ("A or B", None), ("A good question", None), ("Both are fine", None), ("neither", None),
        ("The answer is A. No, the answer is B.", None), ("Answer with A or B", None), ("C", None), ("a", None),
        ("A: Bees make honey.\n\nB: Bees makes plastic bag.", None),  # it repeats both
        ("I think that a comparison of A and B is hard", None),
    ],
)  # fmt: skip
def test_a_verdict_is_read_only_where_there_is_one(text: str, letter: str | None) -> None:
    assert verdict(text) == letter


def test_probabilities_of_the_letters_count_before_the_text() -> None:
    assert chance(Reply("A", True, {"A": -0.5108256, " B": -0.9162907})) == pytest.approx(0.6, abs=1e-6)
    assert chance(Reply("The better one is B", True, {"The": -0.01, "A": -6.0})) == 0.0  # it answers in a sentence
    assert chance(Reply("Well", True, {"Well": -0.1, "A": -3.0})) is None


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("rating", "4", 4.0), ("rating", "**5**", 5.0), ("rating", "3/5", 3.0), ("rating", "2: vague", 2.0),
        ("rating", "7", None), ("rating", "4 or 5", None), ("rating", "10", None), ("rating", "", None),
        ("rating", "No", None), ("approval", "Yes.", 1.0), ("approval", "no, since", 0.0), ("unacceptable", "NO", 0.0),
        ("unacceptable", "No idea", None), ("unacceptable", "Yesterday", None), ("unacceptable", "maybe", None),
        ("approval", "1", None),
    ],
)  # fmt: skip
def test_what_is_said_of_one_outcome_is_read_only_where_it_is_said(kind: Kind, text: str, value: float | None) -> None:
    found = remark_of(kind, 5, text)
    assert (None if found is None else found.value) == value


def test_what_it_is_asked_of_each_outcome_stands_with_its_own(tmp_path: Path) -> None:
    def answer(server: Server, body: dict[str, Any], before: int) -> str:
        asked = body["messages"][0]["content"]
        if "Outcome: " not in asked:
            return longer(server, body, before)
        if "unacceptable" in asked:
            return "Well, no"  # that is no answer
        return str(min(5, asked.split("Outcome: ")[1].split("\n\n")[0].count("word")))

    task = replace(TASK, settings=TASK.settings.model_copy(update={"ask": "rating,unacceptable,note"}))
    with serving(answer) as server:
        it = user(server)
        for i in (0, 1, 3):
            found = it.judge(task, pair(i))
            assert [(one.kind, one.value) for one in found.remarks_a] == [("rating", float(i + 2))]
            assert [(one.kind, one.value) for one in found.remarks_b] == [("rating", float(5 - i))]
            assert found.preference == it.judge(TASK, pair(i)).preference
        assert it.judge(task, pair(0).swapped()).remarks_a == it.judge(task, pair(0)).remarks_b


def test_both_orders_are_asked_and_swapping_flips_the_judgement() -> None:
    with serving() as server:
        it = user(server)
        judged = [it.judge(TASK, pair(i)).preference for i in range(4)]
        assert judged == [0.0, 0.0, 1.0, 1.0]  # longer wins
        assert len(server.bodies) == 8
        swapped = [it.judge(TASK, pair(i).swapped()).preference for i in range(4)]
        assert swapped == [1 - p for p in judged if p is not None]
        assert len(server.bodies) == 8  # the same two questions


def test_who_always_says_a_has_said_nothing() -> None:
    with serving(lambda server, body, before: "A") as server:
        assert user(server).judge(TASK, pair(0)).preference == 0.5


def test_probabilities_are_averaged_over_the_orders() -> None:
    def lean(server: Server, body: dict[str, Any], before: int) -> JSONResponse:
        """Prefers a position by much, and the longer outcome by a little."""
        a = 0.9 if longer(server, body, before) == "A" else 0.8
        top = [{"token": "A", "logprob": math.log(a)}, {"token": "B", "logprob": -2.3}]
        top[1]["logprob"] = math.log(1 - a)
        return JSONResponse(completion("A", body, logprobs={"content": [{**top[0], "top_logprobs": top}]}))

    with serving(lean) as server:
        judged = [user(server).judge(TASK, pair(i)) for i in (0, 3)]
        assert [j.preference for j in judged] == [0.0, 1.0]
        assert "p(A) 0.550, orders 0.900 and 0.200" in judged[1].note
        assert user(server, margin=0.1).judge(TASK, pair(3)).preference == 0.5


def test_what_cannot_be_read_is_an_abstention_never_a_verdict() -> None:
    def odd(server: Server, body: dict[str, Any], before: int) -> str:
        return "I cannot say." if body["messages"][0]["content"].count("A: word word word word word") else "B"

    with serving(odd) as server:
        judgement = user(server).judge(TASK, pair(0))
        assert judgement.preference is None and "I cannot say." in judgement.note


def test_the_assistance_is_part_of_the_question() -> None:
    with serving(lambda server, body, before: "A") as server:
        shown = Pair("t", Case("c"), Outcome("x"), Outcome("y"), (Assistance("t/proofs", "v", ()),), ())
        user(server).judge(TASK, shown)
        assert all("proofs N/A" in prompt for prompt in server.prompts)


def test_pairs_that_come_are_asked_ahead_at_once(tmp_path: Path) -> None:
    async def slowly(said: str) -> str:
        await asyncio.sleep(0.2)
        return said

    with serving(lambda server, body, before: slowly(longer(server, body, before))) as server:
        it = user(server, concurrency=4)
        pairs = [pair(i) for i in range(4)]
        it.expect(TASK, 0, pairs, tmp_path)
        it.judge(TASK, pairs[0])
        assert len(server.bodies) == 8 and 1 < server.most <= 4
        assert [it.judge(TASK, p).preference for p in pairs] == [0.0, 0.0, 1.0, 1.0]
        assert len(server.bodies) == 8


def test_a_later_pairs_failure_is_raised_when_it_is_its_turn(tmp_path: Path) -> None:
    def fail(server: Server, body: dict[str, Any], before: int) -> Any:
        return error(400, "no") if "case 2" in body["messages"][0]["content"] else longer(server, body, before)

    with serving(fail) as server:
        it = user(server, concurrency=1)
        pairs = [pair(i) for i in range(4)]
        it.expect(TASK, 0, pairs, tmp_path)
        assert [it.judge(TASK, p).preference for p in pairs[:2]] == [0.0, 0.0]
        with pytest.raises(EndpointError):
            it.judge(TASK, pairs[2])


# --- a run -------------------------------------------------------------------------------------------


def judgements(out: Path) -> list[tuple[str, int, str, float | None]]:
    store = Store(out / "run.db")
    try:
        return [(c.pair.task, c.round, c.pair.id, c.preference) for c in store.comparisons()]
    finally:
        store.close()


@pytest.mark.slow
def test_a_failed_run_resumes_asks_nothing_twice_and_equals_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRM_API_KEY", CANARY)
    with serving() as server:
        run(tmp_path / "whole", server.url)
        whole = sorted(server.prompts)
        assert len(set(whole)) == len(whole)
        server.bodies.clear()
        for limit in (3, 11):  # it breaks down, twice
            server.answer = lambda server, body, before, limit=limit: (
                longer(server, body, before) if before < limit else error(500, f"down; your key was {CANARY}")
            )
            with pytest.raises(EndpointError, match="down"):
                run(tmp_path / "broken", server.url)
            server.bodies[limit:] = []  # those were not answered
        server.answer = longer
        run(tmp_path / "broken", server.url)
        assert sorted(server.prompts) == whole
    assert judgements(tmp_path / "broken") == judgements(tmp_path / "whole")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["user"]["model"] == "m" and "key" not in config["user"] and "timeout" not in config["user"]


@pytest.mark.slow
def test_ctrl_c_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    async def slowly(said: str) -> str:
        await asyncio.sleep(0.3)
        return said

    with serving(lambda server, body, before: slowly(longer(server, body, before))) as server:
        where = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        running = Forked(["-m", "tests.endpoint.training", tmp_path / "r", server.url], env=where)
        while len(server.bodies) < 5:
            assert running.poll() is None, running.communicate()[1]
            time.sleep(0.02)
        time.sleep(0.15)  # in the middle of some
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
        assert running.returncode == 130, errors
        before = server.prompts
        ledger = Ledger(tmp_path / "r" / "calls.db")
        kept = ledger._db.execute("SELECT COUNT(*) FROM calls").fetchone()[0]
        ledger.close()
        assert kept >= len(before) - 2  # two may have been under way
        server.answer = longer
        run(tmp_path / "r", server.url)
        asked = server.prompts
        assert len(asked) - len(set(asked)) == len(before) - kept


def test_what_it_cost_is_shown(tmp_path: Path) -> None:
    out = tmp_path / "r"
    with serving() as server:
        it = user(server, price_in=1.0, price_out=2.0)
        it.record(out_of(out))
        it.judge(TASK, pair(0))
        Store(out / "run.db").close()
        done = CliRunner().invoke(app, ["inspect", str(out)], env={"COLUMNS": "150"})
        assert done.exit_code == 0, done.output
        (line,) = (line for line in done.output.splitlines() if server.url in line)
        words = sum(len(prompt.split()) for prompt in server.prompts)
        assert line.split() == [it.where, "user", "t", "2", "0", str(words), "2", f"{(words + 4) / 1e6:.4f}"]


def out_of(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_command_line_names_the_endpoint_and_its_settings(tmp_path: Path) -> None:
    tree = tmp_path / "tree.py"
    tree.write_text("from tests.label.training import tree\ntask = tree()\n")
    with serving(lambda server, body, before: error(401, "no")) as server:
        where = f"openai:org/m@{server.url}"
        done = CliRunner().invoke(
            app, ["train", str(tree), "--out", str(tmp_path / "r"), "--user", where, "--set", "user.retries=1", "-q"]
        )
        assert done.exit_code == 2 and "$RRM_API_KEY is not set" in " ".join(done.output.split())
        done = CliRunner().invoke(app, ["train", str(tree), "--user", where, "--set", "user.tries=1"])
        assert done.exit_code == 2 and "retries" in done.output
    done = CliRunner().invoke(app, ["train", str(tree), "--user", "openai:m"])
    assert done.exit_code == 2 and "MODEL@URL" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 401])
def test_the_command_line_shows_no_key_even_when_debugging(tmp_path: Path, status: int) -> None:
    tree = tmp_path / "tree.py"
    tree.write_text("from tests.label.training import tree\ntask = tree()\n")

    def leak(server: Server, body: dict[str, Any], before: int) -> Any:
        return f"I prefer {CANARY}" if status == 200 else error(401, f"Incorrect API key provided: {CANARY}")

    with serving(leak) as server:
        command = ["-m", "rrm", "train", tree, "--out", tmp_path / "r", "--debug"]
        where = os.environ | {
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RRM_API_KEY": CANARY, "OPENAI_LOG": "debug"
        }  # fmt: skip
        done = forked.run([*command, "--user", f"openai:m@{server.url}"], env=where)
        assert done.returncode == 1 and f"Bearer {CANARY}" in server.keys
    assert "Error" in done.stderr and CANARY not in done.stdout + done.stderr
    for path in (tmp_path / "r").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


# --- an agent ----------------------------------------------------------------------------------------


def agent(server: Server, **changes: Any) -> EndpointAgent:
    return EndpointAgent(user(server, **changes), max_tokens=5, path="t/sub")


def test_an_agent_samples_groups_and_keeps_them() -> None:
    with serving(lambda server, body, before: f" w{before} ") as server:
        it = agent(server, concurrency=1)
        cases = [Case("one"), Case("two"), Case("one")]
        groups = it.sample(cases, 2, "k")
        assert [g.case for g in groups] == cases and all(len(g.outcomes) == 2 for g in groups)
        assert len({o.text for g in groups for o in g.outcomes}) == 6  # no two alike, also of the case that came twice
        assert len({body["seed"] for body in server.bodies}) == 6
        assert {body["max_tokens"] for body in server.bodies} == {5}
        assert {body["temperature"] for body in server.bodies} == {1.0}
        assert it.sample(cases, 2, "k") == groups and len(server.bodies) == 6
        assert it.sample(cases, 2, "another") != groups
        greedy = it.sample(cases, 1, "k", greedy=True)
        assert server.bodies[-1]["temperature"] == 0.0 and greedy[0].outcomes == greedy[2].outcomes


def test_an_agent_elsewhere_cannot_be_trained() -> None:
    with serving() as server:
        for do in (agent(server).state, lambda: agent(server).load({})):
            with pytest.raises(EndpointError, match="cannot be trained"):
                do()
        assert agent(server).version != agent(server, model="other").version
        assert agent(server).version == agent(server, timeout=9.0).version


def test_it_works_in_a_finished_assistant_without_a_reward_model() -> None:
    with serving(lambda server, body, before: "w5") as server:
        helper = Assistant(toy.sub(), agent(server), reward=None)
        group = Group(Case("c"), (Outcome("w1"), Outcome("w2")))
        ((one, two),) = helper.examine([group])
        assert [f.holds for f in one.findings] == [True] and one.answers[0].confidence is None
        assert len(server.bodies) == 2  # the greedy answer, whatever `drafts` says
        assert helper.examine([group]) == [(one, two)] and len(server.bodies) == 2
        assert replace(helper, agent=agent(server, model="m2")).version != helper.version


class Shortest:
    """A reward model that likes few words."""

    version = "shortest"

    def score(self, groups: Any) -> Any:
        import torch

        from rrm.models.reward import EnsembleScores

        found = [torch.tensor([-float(len(o.text.split())) for o in g.outcomes]) for g in groups]
        return [EnsembleScores(values, values * 0, values[:, None]) for values in found]

    def state(self) -> Any: ...
    def load(self, state: Any) -> None: ...


def test_with_a_reward_model_the_best_of_its_drafts_is_given() -> None:
    with serving(lambda server, body, before: "w5 " * (3 - before % 3)) as server:
        task = toy.sub(settings=toy.SMALL.model_copy(update={"drafts": 3}))
        helper = Assistant(task, agent(server, concurrency=1), Shortest())
        ((said,),) = helper.examine([Group(Case("c"), (Outcome("w1"),))])
        assert said.answers[0].outcome.text == "w5" and said.answers[0].confidence is not None


@pytest.mark.parametrize("helped", ["helper", "helper of a helper"])
def test_a_run_with_such_an_assistant_records_its_calls_and_repeats_none(tmp_path: Path, helped: str) -> None:
    backbone = Backbone("tiny", network(), tokenizer(), "full")

    def tree(server: Server) -> Task:
        below = replace(toy.sub("below"), path="toy/sub/below")
        if helped == "helper":
            helper = Assistant(replace(toy.sub(), path="toy/sub"), agent(server), None)
        else:
            low = Assistant(below, replace(agent(server), path="toy/sub/below"), None)
            helper = Assistant(replace(toy.sub(), path="toy/sub"), agent(server), None, (low,))
        return toy.task(assistants=(helper,))

    with serving(lambda server, body, before: "w5 w6") as server:
        train(tree(server), BoundedUser(), backbone, tmp_path / "r")
        asked = len(server.bodies)
        calls = Reader(tmp_path / "r").calls
        assert asked == sum(c.calls for c in calls) > 0 and {c.who for c in calls} == {"agent"}
        paths = {"t/sub"} if helped == "helper" else {"t/sub", "toy/sub/below"}
        assert {c.task for c in calls} == paths
        shutil.copytree(tmp_path / "r", tmp_path / "again")
        train(tree(server), BoundedUser(), backbone, tmp_path / "again")
        assert len(server.bodies) == asked
