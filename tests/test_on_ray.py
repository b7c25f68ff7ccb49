"""Nodes side by side on a real Ray: the bits and records of a serial run, also when workers and machines are lost."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rrm
from rrm.core.errors import ConfigError, RunError
from rrm.core.judgements import Event
from rrm.loop import on_ray
from rrm.loop.on_ray import OnRay, sendable
from rrm.loop.recipe import Recipe
from rrm.loop.training import maker_of
from rrm.models.backbone import Backbone
from tests import forked, toy
from tests.bandits import ROOT
from tests.models.conftest import network, tokenizer
from tests.side_by_side import content
from tests.test_ahead import SMALL, Remembering, maker, same, tree

REAL = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")

FILE = '''
from beside import even
from rrm import Case, Fact, Finding, Pool, Sealed, Settings, Task

SMALL = Settings(rounds=1, cases=3, outcomes=3, comparisons=3, max_tokens=12, temperature=2.0,
                 heads=2, reward_epochs=1, steps=1, batch=2, group=2, accept=2)


def facts(case, outcome):
    return [Fact("even", "form", Sealed(even(outcome.text))), Fact("long", "form", Sealed(len(outcome.text) > 9))]


def sub(name):
    return Task(name, "Which?", facts=lambda c, o: facts(c, o), covers=("form",), settings=SMALL,
                frame=lambda c, o: [Case(o.text)], findings=lambda c, o: [Finding("even", len(o.text) > 3)])


task = Task("mine", "Which is better?", facts=facts, cases=Pool((Case("a paper on rain"), Case("b"), Case("c"))),
            settings=SMALL, assistants=[sub("one"), sub("two")])
'''


def command(*given: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / ".links"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    if "ray" not in "".join(given):
        return forked.run(["-m", "rrm", *given], cwd=cwd, env=env)
    return subprocess.run(
        [sys.executable, "-m", "rrm", *given], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )


@REAL
@pytest.mark.slow
def test_a_tree_in_a_file_from_the_command_line(tmp_path: Path) -> None:
    """Its module has a name of ours, some of its functions have none, and it imports what lies beside it."""
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("def even(text):\n    return len(text) % 2 == 0\n")
    for name, how in (("serial", ["--threads", "1"]), ("ray", ["--on", "ray:retries=1"])):
        done = command("train", "./mine.py", "--out", name, *how, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for node in ("mine/one", "mine/two", "mine"):
            assert f"{node} round 1/1: 3 comparisons so far" in done.stdout
            assert f"{node} round 1/1: reward " in done.stdout
    same(content(tmp_path / "ray"), content(tmp_path / "serial"))


@REAL
@pytest.mark.slow
def test_interrupted_it_leaves_nothing_behind_and_goes_on(tmp_path: Path) -> None:
    """By SIGTERM, as the command line takes it: as Ctrl-C. Ray would take it for itself."""
    out = tmp_path / "run"
    code = (
        "import rrm\nfrom tests.test_ahead import Remembering, maker, tree\n"
        "from rrm.command.terminating import ended_by_sigterm\nwith ended_by_sigterm():\n"
        f"    rrm.train(tree(), Remembering(attention=4), maker().backbone, {str(out)!r}, on='ray',"
        " watch=[lambda node, event: print(event.task, event.phase, flush=True)])\n"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("toy/") and "fit" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 143, rest
    assert "toy done" not in rest
    assert not started_by(process.pid)

    torch.set_num_threads(1)
    user = Remembering(attention=4)
    rrm.train(tree(), user, maker().backbone, out)
    rrm.train(tree(), Remembering(attention=4), maker().backbone, tmp_path / "serial")
    expected = content(tmp_path / "serial")
    same(content(out), expected)
    assert 0 < user._asked.total() < sum(map(len, expected["judgements"].values()))


def started_by(pid: int) -> list[str]:
    """Processes of that Ray, a moment after its driver has ended."""
    marks = [f"driver_pid={pid}", f"--monitored-pid {pid}", f"_{pid}/"]
    for _ in range(40):
        found = []
        for one in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = one.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(mark in text for mark in marks):
                found.append(text[:200])
        if not found:
            return []
        time.sleep(0.5)
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two machines of one processor each, and a head that computes nothing, all on this one."""
    for name, value in on_ray.QUIET.items():
        monkeypatch.setenv(name, value)
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    made.workers = [made.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    made.wait_for_nodes()
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@REAL
@pytest.mark.slow
def test_a_worker_killed_and_a_machine_lost_in_mid_run(cluster: Any, tmp_path: Path) -> None:
    driver, flag, log = os.getpid(), tmp_path / "killed", tmp_path / "log"

    def node(name: str, **more: Any) -> rrm.Task:
        def facts(case: rrm.Case, outcome: rrm.Outcome) -> Sequence[rrm.Fact]:
            if os.getpid() != driver:
                import ray

                with log.open("a") as file:
                    file.write(f"toy/{name} {os.getpid()} {ray.get_runtime_context().get_node_id()}\n")
                if log.read_text().count("\n") > 20 and not flag.exists():
                    flag.write_text(f"toy/{name}")
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.02)
            return toy.facts(case, outcome)

        return toy.sub(name, settings=SMALL, facts=facts, **more)

    def whole() -> rrm.Task:
        subs = [node(name, cases=toy.CASES) for name in ("two", "three", "four")]
        return toy.task(settings=SMALL, assistants=[node("one", assistants=[node("deep")]), *subs])

    def lines() -> list[list[str]]:
        return [line.split() for line in log.read_text().splitlines()]

    torch.set_num_threads(1)
    rrm.train(whole(), Remembering(attention=4), maker().backbone, tmp_path / "serial")
    log.write_text("")
    removed: list[str] = []

    def watch(node: Any, event: Event) -> None:
        """Take away the machine on which a node, another than the killed one, is in the middle of its first round."""
        at = event.task.removeprefix("toy/")
        first = at in ("two", "three", "four") and event.phase == "fit" and event.round == 0
        if first and not removed and flag.exists() and event.task != flag.read_text():
            machine = next(where for path, _, where in reversed(lines()) if path == event.task)
            (lost,) = (one for one in cluster.workers if one.node_id == machine)
            removed.append(event.task)
            cluster.remove_node(lost, allow_graceful=False)

    user = Remembering(attention=4)
    on = f"ray:address={cluster.address}"
    rrm.train(whole(), user, maker().backbone, tmp_path / "run", on=on, watch=[watch])
    for path in (flag.read_text(), *removed):
        assert len({pid for where, pid, _ in lines() if where == path}) > 1, f"{path} was not done again"
    assert removed
    expected = content(tmp_path / "serial")
    same(content(tmp_path / "run"), expected)
    assert max(user._asked.values()) == 1 and user._asked.total() == sum(map(len, expected["judgements"].values()))


@REAL
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs the extra env")
def test_agents_that_act_keep_their_episodes_where_a_serial_run_does(tmp_path: Path) -> None:
    from rrm_tasks.cart_pole import task

    few = {"rounds": 1, "cases": 3, "outcomes": 2, "comparisons": 4, "steps": 1, "reward_epochs": 2, "accept": 2}
    small = task.settings.model_copy(update=few)
    subs = [
        replace(task, name=name, path="", settings=small, frame=lambda c, o: [c], findings=lambda c, o: [],
                covers=task.aspects, assistants=()) for name in ("one", "two")
    ]  # fmt: skip
    whole = replace(task, settings=small, assistants=subs, usual={})
    torch.set_num_threads(1)
    for name, on in (("serial", None), ("ray", "ray")):
        rrm.train(whole, rrm.BoundedUser(), "ppo", tmp_path / name, on=on)
    expected = content(tmp_path / "serial")
    assert any(path.startswith("episodes/") for path in expected["files"])
    same(content(tmp_path / "ray"), expected)


# --- without a Ray -----------------------------------------------------------------------------------


def test_settings_are_read_and_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert OnRay.read("ray") == OnRay() and OnRay().where == "local"
    read = OnRay.read("ray:gpus=0.5,cpus=2,retries=0,address=10.0.0.1:6379")
    assert read == OnRay(cpus=2, gpus=0.5, retries=0, address="10.0.0.1:6379") and read.where == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert OnRay.read("ray").where == "head:6379" and OnRay.read("ray:address=local").where == "local"
    for text, part in (
        ("spark", "can train on ray"), ("ray:gpu=1", "did you mean 'gpus'"), ("ray:gpus", "no setting"),
        ("ray:cpus=0", "give 1 or more"), ("ray:cpus=1.5", "no number"), ("ray:gpus=1.5", "a part of one, or whole"),
        ("ray:gpus=nan", "give 0 or more"), ("ray:retries=-1", "give 0 or more"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=part):
            OnRay.read(text)


def test_what_cannot_be_is_said_before_anything_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(on: str = "ray", **changes: Any) -> None:
        rrm.train(tree(**changes), Remembering(attention=4), maker().backbone, tmp_path / "run", on=on)

    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"pip install 'ray>=2.50,<3'"):
            begin()
    with pytest.raises(ConfigError, match="on a machine of the cluster"):
        begin("ray:address=ray://head:10001")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="Ray starts the processes"):
        begin()
    assert not (tmp_path / "run").exists()


@REAL
def test_what_cannot_be_sent_is_named() -> None:
    with pytest.raises(RunError, match="the task 'x' cannot be sent to a worker"):
        sendable(SimpleNamespace(lock=threading.Lock()), "the task 'x'")


def test_a_maker_is_made_again_as_it_was_made(tmp_path: Path) -> None:
    by_name = Recipe.of("embedded", maker_of).make()
    loaded = Recipe.of(Backbone.load("embedded", adapters="lora"), maker_of).make()
    assert by_name.fingerprint == loaded.fingerprint and loaded.backbone.adapters == "lora"  # type: ignore[attr-defined]
    by_hand = maker()
    assert Recipe.of(by_hand, maker_of).make().fingerprint == by_hand.fingerprint
    with pytest.raises(RunError, match="put together by hand"):
        Recipe.of(Backbone("tiny", network(), tokenizer(), "lora"), maker_of)


def test_a_job_that_no_machine_has_room_for_is_refused() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}}]
    on_ray._check_room(OnRay(cpus=2), nodes)
    for setting in (OnRay(cpus=4), OnRay(gpus=1)):
        with pytest.raises(RunError, match="no machine has them"):
            on_ray._check_room(setting, nodes)
