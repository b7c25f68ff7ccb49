"""Nodes side by side: the driver alone asks, writes and remembers, and what it has at the end is a serial run's."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import PrivateAttr

import rrm
from rrm import BoundedUser, Judgement, Pair, Settings
from rrm.core.errors import RRMError, RunError
from rrm.core.judgements import Event
from rrm.labels.queue import Labels
from rrm.learning.text_maker import TextMaker
from rrm.loop.away import MOMENT, Link
from rrm.models.backbone import Backbone
from rrm.store.journal import Journal
from rrm.users.human import HumanUser
from tests import toy
from tests.models.conftest import network, tokenizer
from tests.side_by_side import Gone, InThreads, content, trained

SMALL = toy.SMALL.model_copy(update={"rounds": 2, "accept": 2, "steps": 1, "drafts": 2})


def maker() -> TextMaker:
    return TextMaker(Backbone("tiny", network(), tokenizer(), "full", verified=True))


class Remembering(BoundedUser):
    """Counts what it was asked, and what it was told of."""

    _asked: Counter[str] = PrivateAttr(default_factory=Counter)
    _known: Counter[tuple[str, int]] = PrivateAttr(default_factory=Counter)

    def judge(self, task: rrm.Task, pair: Pair) -> Judgement:
        self._asked[pair.id] += 1
        return super().judge(task, pair)

    def recall(self, task: rrm.Task, judgement: Judgement) -> None:  # a judgement is told by `judge`, too
        self._known[task.path, hash(judgement)] += 1
        super().recall(task, judgement)


def tree(settings: Settings = SMALL, **root: Any) -> rrm.Task:
    """Three siblings, one of them with a subtask, one with cases of its own."""
    nested = toy.sub("nested", settings=settings, assistants=[toy.sub("deep", settings=settings)])
    own = toy.sub("own", settings=settings, cases=toy.CASES)
    subs = [toy.sub("plain", settings=settings), nested, own]
    return toy.task(settings=settings.model_copy(update=root), assistants=subs)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    out = tmp_path_factory.mktemp("serial") / "run"
    root = trained(None, tree(), Remembering(attention=4), maker(), out)
    return content(out), root.version


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: found[name] == expected[name] for name in expected} == dict.fromkeys(expected, True)


def test_nodes_side_by_side_leave_what_a_serial_run_leaves(
    serial: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    expected, version = serial
    user, events = Remembering(attention=4), []
    workers = InThreads(maker, user.name)
    seen: dict[str, int] = {}

    def watch(node: Any, event: Event) -> None:
        events.append(event)
        if event.phase == "done":
            seen[event.task] = len(node.comparisons)
            assert node.history() and node.key("x")

    root = trained(workers, tree(), user, maker(), tmp_path / "run", (watch,))
    same(content(tmp_path / "run"), expected)
    assert root.version == version
    assert max(user._asked.values()) == 1 and user._asked.total() == sum(map(len, expected["judgements"].values()))
    jobs = workers.started
    assert jobs.index(("toy/nested", True)) < jobs.index(("toy/nested/deep", False)) < jobs.index(("toy/nested", False))
    assert sorted(jobs) == sorted([*((f"toy/{n}", False) for n in ("plain", "nested", "own", "nested/deep")),
                                   ("toy/nested", True)])  # fmt: skip
    done = Counter(event.task for event in events if event.phase == "done")
    assert done == dict.fromkeys(("toy", *(f"toy/{n}" for n in ("plain", "nested", "own", "nested/deep"))), 2)
    assert all(seen.values())


def test_the_user_knows_after_it_what_it_would_know_after_a_serial_run(
    serial: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    one, other = Remembering(attention=4), Remembering(attention=4)
    trained(None, tree(), one, maker(), tmp_path / "serial")
    trained(InThreads(maker, other.name), tree(), other, maker(), tmp_path / "run")
    assert one._known == other._known and one._record == other._record


@pytest.mark.parametrize("every", [7, 23])
def test_a_lost_worker_is_a_rerun_and_nothing_is_asked_twice(
    serial: tuple[dict[str, Any], str], tmp_path: Path, every: int
) -> None:
    expected, version = serial
    user = Remembering(attention=4)
    died: list[int] = []

    def dies(number: int, path: str) -> bool:
        if number % every == 0 and len(died) < 6:
            died.append(number)
            return True
        return False

    workers = InThreads(maker, user.name, dies)
    root = trained(workers, tree(), user, maker(), tmp_path / "run")
    assert len(workers.lost) == 6
    same(content(tmp_path / "run"), expected)
    assert root.version == version and max(user._asked.values()) == 1


def test_a_run_that_was_stopped_goes_on_either_way(serial: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    """Side by side, then serially, then side by side: the user is told once of what was judged before."""
    expected, version = serial
    out, asked = tmp_path / "run", 0

    class Stop(Exception):
        pass

    for ahead, events in ((True, 30), (False, 45), (True, 40)):
        left = [events]

        def watch(node: Any, event: Event, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Stop

        user = Remembering(attention=4)
        workers = InThreads(maker, user.name) if ahead else None
        with pytest.raises(Stop):
            trained(workers, tree(), user, maker(), out, (watch,))
        asked += user._asked.total()
        assert workers is None or workers.stopped
        if workers is not None:
            workers._ended = True
    last = Remembering(attention=4)
    workers = InThreads(maker, last.name)
    root = trained(workers, tree(), last, maker(), out)
    same(content(out), expected)
    assert root.version == version and asked + last._asked.total() == sum(map(len, expected["judgements"].values()))
    again = InThreads(maker, last.name)
    assert trained(again, tree(), Remembering(attention=4), maker(), out).version == version
    assert not again.started  # nothing was left to do


def test_assistants_that_are_refreshed(tmp_path: Path) -> None:
    """A parent's later rounds give its assistants more: theirs go to workers as their first ones did."""
    small = SMALL.model_copy(update={"rounds": 1})
    one, other = Remembering(attention=4), Remembering(attention=4)
    whole = tree(small, rounds=2, refresh=1)
    first = trained(None, whole, one, maker(), tmp_path / "serial")
    workers = InThreads(maker, other.name)
    second = trained(workers, whole, other, maker(), tmp_path / "run")
    same(content(tmp_path / "run"), content(tmp_path / "serial"))
    assert first.version == second.version and one._known == other._known
    assert Counter(workers.started)["toy/plain", False] == 2


def test_an_error_in_a_worker_and_one_of_the_user_name_their_node(tmp_path: Path) -> None:
    def broken(case: Any, outcome: Any) -> Any:
        raise ZeroDivisionError("oh")

    whole = tree()
    subs = [replace(sub, facts=broken) if sub.name == "own" else sub for sub in whole.assistants]
    user = Remembering(attention=4)
    workers = InThreads(maker, user.name)
    with pytest.raises(RRMError, match="toy/own"):
        trained(workers, replace(whole, assistants=subs), user, maker(), tmp_path / "a")
    assert workers.stopped

    class Tired(Remembering):
        def judge(self, task: rrm.Task, pair: Pair) -> Judgement:
            if task.path == "toy/plain":
                raise RRMError("too tired")
            return super().judge(task, pair)

    tired = Tired(attention=4)
    workers = InThreads(maker, tired.name)
    with pytest.raises(RRMError, match="toy/plain: too tired"):
        trained(workers, whole, tired, maker(), tmp_path / "b")
    assert workers.stopped


@pytest.mark.timeout(120)
def test_people_are_asked_by_all_nodes_that_are_ready_together(tmp_path: Path) -> None:
    """Nobody judges before two nodes have queued their pairs: neither waits for the other's to be judged."""
    user = HumanUser(grace=0.0, poll=0.02, tell=lambda line: None)
    done, together = threading.Event(), set[str]()

    def person() -> None:
        while not (tmp_path / "labels.db").exists():
            time.sleep(0.02)
        labels = Labels(tmp_path)
        while not done.is_set():
            asking = {question.task for question in labels.questions(list(labels.cases())).values()}
            together.update(asking)
            for question in labels.claim("ann") if len(asking) > 1 else ():
                labels.answer(question.id + "-key", question.id, "ann", "first", seconds=3.0)
            time.sleep(0.02)

    few = SMALL.model_copy(update={"rounds": 1, "accept": 0})
    subs = [toy.sub(name, settings=few, cases=toy.CASES) for name in ("left", "right")]
    thread = threading.Thread(target=person)
    thread.start()
    try:
        trained(InThreads(maker, user.name), toy.task(settings=few, assistants=subs), user, maker(), tmp_path)
    finally:
        done.set()
        thread.join()
    assert together == {"toy", "toy/left", "toy/right"}
    kept = Journal(tmp_path).comparisons()
    assert len(kept) == len(Labels(tmp_path).cases()) and {one.user for one in kept} == {"human(ann)"}


def test_a_watcher_that_looks_at_an_agent_is_told_where_it_is(tmp_path: Path) -> None:
    user = Remembering(attention=4)
    with pytest.raises(RunError, match="which trains in another process"):
        trained(InThreads(maker, user.name), tree(), user, maker(), tmp_path, (lambda node, event: node.agent.version,))


def test_a_worker_goes_on_with_the_weights_that_were_kept_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.keep_body("toy", 0, "agent", b"one", "a" * 64) is None
    assert journal.keep_body("toy", 0, "agent", b"one", "a" * 64) is None
    with pytest.raises(RunError):  # what is there is not what its row says: no silence about it
        journal.keep_body("toy", 0, "agent", b"two", "b" * 64)
    assert (tmp_path / "nodes/toy/0/agent.safetensors").read_bytes() == b"one"


def test_what_is_told_arrives_in_order_and_with_what_is_asked() -> None:
    now, sent = [0.0], []

    def send(messages: list[Any]) -> Any:
        sent.append([what for what, _ in messages])
        return len(messages)

    link = Link(send, lambda: now[0])
    link.tell("a")
    link.tell("b")
    assert not sent
    assert link.ask("c") == 3 and sent == [["a", "b", "c"]]
    link.tell("d")
    now[0] += 2 * MOMENT
    link.tell("e")
    assert sent[1:] == [["d", "e"]]


def test_notices_of_workers_are_shown_here(tmp_path: Path) -> None:
    from rrm.core.errors import Notice
    from rrm.loop.ahead import Desk, Letter
    from rrm.loop.run import Run

    answers: list[Any] = []
    desk = Desk(Run(tmp_path, maker()), BoundedUser(), lambda letter, answer: answers.append(answer))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        desk.serve(Letter(1, "toy", [("warn", ("look out",)), ("checkpoints", ("toy",))]))
    assert [str(one.message) for one in caught if one.category is Notice] == ["look out"] and answers == [{}]


def test_gone_is_no_error_that_anybody_catches() -> None:
    assert not issubclass(Gone, Exception)


def test_no_more_jobs_run_on_ray_than_there_are_processors_for() -> None:
    """Ray takes a worker that waits for an answer to need none, and would start them all."""
    from collections import deque
    from types import SimpleNamespace

    from rrm.loop.on_ray import RayWorkers

    workers = object.__new__(RayWorkers)
    given: list[str] = []
    workers._work = SimpleNamespace(remote=lambda setup, body, path, *rest: given.append(path) or object())
    workers._setup = workers._mailbox = None
    workers._jobs, workers._queue, workers._most = {}, deque(), 2
    for name in "abcde":
        workers.start(SimpleNamespace(task=SimpleNamespace(path=name)), False)  # type: ignore[arg-type]
    assert given == ["a", "b"]
    workers._jobs.popitem()
    workers._fill()
    assert given == ["a", "b", "c"] and len(workers._queue) == 2


def test_a_maker_of_somebody_s_own_goes_to_workers_as_it_is() -> None:
    """A plain one over the same backbone has the same fingerprint, and would not be noticed."""
    from rrm.learning.text_maker import TextMaker
    from rrm.loop.recipe import Recipe
    from rrm.loop.training import maker_of
    from rrm.models.backbone import Backbone

    class Mine(TextMaker):
        pass

    backbone = Backbone.load("embedded")
    assert type(Recipe.of(Mine(backbone), maker_of).make()) is Mine
    assert type(Recipe.of(TextMaker(backbone), maker_of).make()) is TextMaker


def test_a_model_in_float32_can_be_sent() -> None:
    from rrm.loop.recipe import Recipe
    from rrm.loop.training import maker_of

    cloudpickle = pytest.importorskip("ray").cloudpickle
    recipe = Recipe.of(maker(), maker_of)
    assert cloudpickle.loads(cloudpickle.dumps(recipe)).make().fingerprint == maker().fingerprint
