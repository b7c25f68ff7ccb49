"""Jobs on Ray: workers on this machine, or on a cluster that somebody named. The engine is Ray's; see `rrm.loop.ahead`.

Ray runs the jobs, places them by the processors and GPUs they ask for, and runs one again whose worker or machine is
lost. Ours are the letters: a small actor on this machine (`rrm.loop.mailbox`) in which workers leave what they ask.
Jobs and letters are pickled, as all is that Ray sends between the processes of one program; no file is ever read so.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from rrm.core.errors import ConfigError, Notice, RRMError, RunError
from rrm.core.extras import bring
from rrm.core.neighbors import NEIGHBORS
from rrm.core.parties import Deciding, Expectant, Maker, Naming, Recording, User
from rrm.core.records import digest
from rrm.core.spelling import nearest
from rrm.core.task import Assistant, Pool, Task
from rrm.loop.ahead import Done, Letter
from rrm.loop.away import AwayExpectant, AwayJournal, AwayUser, Link, Message, watching
from rrm.loop.job import Job, carry_out, frame
from rrm.loop.mailbox import Mailbox
from rrm.loop.recipe import Recipe
from rrm.loop.run import made_with

SECOND = 1.0
GRACE = 20.0
"""Seconds in which workers that were told to stop have stopped."""
QUIET = {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_worker_niceness": "0",  # 15 by default: on busy cores importing torch then takes twenty seconds
}  # fmt: skip
"""For a Ray of our own, on this machine only."""


# --- what was asked for ------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnRay:
    """How jobs run on Ray: `ray`, or `ray:gpus=1,cpus=4`."""

    cpus: int = 1
    """Processors of a job, and threads of every node, the root's too: the bits depend on them."""
    gpus: float = 0.0
    """GPUs of a job, or a part of one that several share. The root's node, in this process, uses what it finds."""
    retries: int = 3
    """How often a job is done again whose worker was lost."""
    store: int = 200
    """MB of shared memory for a Ray of our own: weights pass through it."""
    address: str = ""
    """Of a cluster's head, `auto`, or `local`: a Ray of our own on this machine. By default what RAY_ADDRESS says, else
    local: a cluster is never joined unasked."""

    @classmethod
    def read(cls, text: str) -> OnRay:
        """Raises `ConfigError` for anything else than ray[:NAME=VALUE,...]."""
        engine, _, rest = text.partition(":")
        if engine != "ray":
            raise ConfigError(f"on {text!r}: nodes can train on ray, or ray:NAME=VALUE,... ({cls._names()})")
        kinds: dict[str, Callable[[str], Any]] = {"cpus": int, "gpus": float, "retries": int, "store": int}
        found: dict[str, Any] = {}
        for part in rest.split(",") if rest else ():
            name, equals, value = part.strip().partition("=")
            if not equals or name not in {field.name for field in fields(cls)}:
                near = nearest(name, [field.name for field in fields(cls)])
                raise ConfigError(f"on {text!r}: {part!r} is no setting of it{near}; there are {cls._names()}")
            try:
                found[name] = kinds.get(name, str)(value)
            except ValueError as error:
                raise ConfigError(f"on {text!r}: {name}={value} is no number") from error
        made = cls(**found)
        for name, least in (("cpus", 1), ("gpus", 0), ("retries", 0), ("store", 80)):
            if not getattr(made, name) >= least:
                raise ConfigError(f"on {text!r}: {name}={getattr(made, name)}; give {least} or more")
        if made.gpus > 1 and made.gpus != int(made.gpus):
            raise ConfigError(f"on {text!r}: gpus={made.gpus}; give a part of one, or whole ones")
        return made

    @classmethod
    def _names(cls) -> str:
        return ", ".join(f"{field.name} (default {field.default or 'RAY_ADDRESS, else local'})"
                         if field.name == "address" else f"{field.name} (default {field.default:g})"
                         for field in fields(cls))  # fmt: skip

    @property
    def where(self) -> str:
        """The address, as it is now."""
        return self.address or os.environ.get("RAY_ADDRESS", "") or "local"


def ready(setting: OnRay) -> None:
    """Before anything of Ray is imported. Raises `ConfigError` if it is not installed, or cannot be used so."""
    if setting.where.startswith("ray://"):
        raise ConfigError(
            f"{setting.where}: run on a machine of the cluster, and give the address of its head (HOST:6379)"
        )
    if setting.where == "local":
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
    if find_spec("ray") is None:
        raise ConfigError(
            f"Ray is not installed: pip install 'ray>=2.50,<3' ({bring('ray')}, too); without it, leave --on out"
        )


@dataclass(frozen=True)
class Setup:
    """What every worker of a run is told first: plain data, which needs nothing to be imported."""

    run: str
    """Names the run's session: a worker that did a job of it has the model already."""
    paths: tuple[str, ...]
    folders: tuple[str, ...]
    files: Mapping[str, str]
    """Of `NEIGHBORS`."""
    recipe: bytes
    fingerprint: str
    made_with: Mapping[str, Any]
    decided: Mapping[str, Any] | None
    user: str
    expectant: bool
    folder: str
    mark: str
    """A digest of the run folder's config.json, by which a worker knows whether it sees the same folder."""
    threads: int
    gpus: float


def sendable(thing: object, what: str) -> bytes:
    """It as bytes for another process. Raises `RunError` for what cannot be sent."""
    from ray import cloudpickle

    try:
        body: bytes = cloudpickle.dumps(thing)
    except (TypeError, AttributeError, cloudpickle.PicklingError) as error:
        raise RunError(
            f"{what} cannot be sent to a worker: {error}. Give the model by name or folder; let functions and finished "
            "assistants hold no open files, connections or locks; or train without --on"
        ) from error
    return body


def setup_of(recipe: Recipe, task: Task, maker: Maker, user: User, out: Path, setting: OnRay,
             decided: Mapping[str, Any] | None) -> Setup:  # fmt: skip
    """Raises `RunError` if anything of it cannot be sent, and `ConfigError` if jobs would compute elsewhere than the
    root."""
    device = getattr(maker, "device", "cpu")
    if device != "cpu" and not setting.gpus:
        raise ConfigError(
            f"the root computes on {device}, and jobs ask for no GPU: give ray:gpus=1 (or a part of one, such as 0.5), "
            "or --device cpu"
        )
    for sub in task.assistants:
        if isinstance(sub, Task):
            sendable(sub, f"the task {sub.path!r}")
    out = out.resolve()
    return Setup(
        run=digest(str(out), os.getpid(), os.urandom(8).hex()), paths=tuple(filter(None, map(_absolute, sys.path))),
        folders=tuple(NEIGHBORS.folders), files=dict(NEIGHBORS.files), recipe=sendable(recipe, "the model"),
        fingerprint=maker.fingerprint, made_with=made_with(maker), decided=decided, user=user.name,
        expectant=isinstance(user, Expectant), folder=str(out), mark=_mark(out), threads=setting.cpus,
        gpus=setting.gpus,
    )  # fmt: skip


def _absolute(path: str) -> str:
    return str(Path(path or ".").resolve())


def _mark(folder: Path) -> str:
    config = folder / "config.json"
    return digest(config.read_text(encoding="utf-8")) if config.is_file() else ""


# --- in a worker -------------------------------------------------------------------------------------

_MAKERS: dict[str, Maker] = {}
"""Session -> its maker: of the one that this process works for."""


def work(setup: Setup, body: bytes, path: str, framing: bool, mailbox: Any) -> bytes:
    """Do a job, in a worker. Returns, pickled, what `rrm.loop.job.frame` does; nothing of a job that trains."""
    import ray
    from ray import cloudpickle

    if not setup.gpus:  # whatever Ray makes of a job that asks for none
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path.extend(path for path in setup.paths if path not in sys.path)
    NEIGHBORS.show(*map(Path, setup.folders), files=setup.files)

    def send(messages: list[Message]) -> Any:
        return cloudpickle.loads(ray.get(mailbox.ask.remote(path, cloudpickle.dumps(messages))))

    def tell(message: Warning | str, *rest: Any, **more: Any) -> None:
        link.tell("warn", str(message))

    link = Link(send)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries; they were shown where the run began
        warnings.simplefilter("always", Notice)
        warnings.showwarning = tell
        maker = _maker(setup)
        job: Job = cloudpickle.loads(body)
        _recording(setup, job.task, maker)
        user = (AwayExpectant if setup.expectant else AwayUser)(link, setup.user)
        journal = AwayJournal(link, setup.folder)
        do = frame if framing else carry_out
        found = do(job, maker, user, journal, [watching(link)])
        link.ask("end")  # all that was told is there
    made: bytes = cloudpickle.dumps(found)
    return made


def _maker(setup: Setup) -> Maker:
    if setup.run not in _MAKERS:
        from ray import cloudpickle

        _MAKERS.clear()
        recipe: Recipe = cloudpickle.loads(setup.recipe)
        maker = recipe.make()
        torch.set_num_threads(setup.threads)
        if maker.fingerprint != setup.fingerprint:
            raise RunError(
                f"the model {maker.name!r} has other weights on {socket.gethostname()} than where the run began; put "
                "the same on every machine"
            )
        if isinstance(maker, Deciding):
            maker.decide(setup.decided)
        here, there = ({**one, **one["packages"]} for one in (made_with(maker), setup.made_with))
        moved = [f"{key} {there[key]} there, {here[key]} here" for key in there
                 if key != "packages" and here.get(key, there[key]) != there[key]]  # fmt: skip
        if moved:
            warnings.warn(
                f"a worker on {socket.gethostname()} computes otherwise than where the run began: {'; '.join(moved)}. "
                "Its last bits are others than a run's in one place", Notice, stacklevel=2,
            )  # fmt: skip
        _MAKERS[setup.run] = maker
    return _MAKERS[setup.run]


def _recording(setup: Setup, task: Task, maker: Maker) -> None:
    """Let what keeps records of its own keep them in the run's folder. Raises `RunError` if this machine has another
    there."""
    agents = [a.agent for node in task.walk() for a in node.assistants if isinstance(a, Assistant)]
    parts = [part for part in (maker, *agents) if isinstance(part, Recording | Naming)]
    folder = Path(setup.folder)
    if parts and (not setup.mark or _mark(folder) != setup.mark):
        raise RunError(
            f"{type(parts[0]).__name__} keeps records in the run's folder, and {socket.gethostname()} does not see "
            f"{folder}; put it on a disk that all machines share, or use one machine"
        )
    for part in parts:
        if isinstance(part, Recording):
            part.record(folder)


# --- in the driver -----------------------------------------------------------------------------------


class RayWorkers:
    """`rrm.loop.ahead.Workers` on Ray. A Ray that is running in this process already is used, and left running."""

    def __init__(self, setting: OnRay, setup: Setup) -> None:
        self._setting = setting
        self._ours = _connect(setting)
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        try:
            _check_room(setting, ray.nodes())
        except RRMError:
            if self._ours:
                ray.shutdown()
            raise
        # Ray takes a worker that waits for an answer to use no processor, and would start one for every job.
        cpus = sum(float(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        self._most = max(1, int(cpus // setting.cpus)) if not setup.expectant else sys.maxsize
        self._queue: deque[tuple[Job, bool]] = deque()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Threads without end would be one each for the letters that wait: an asyncio actor has one for all.
        self._mailbox = ray.remote(Mailbox).options(
            num_cpus=0, scheduling_strategy=here, max_concurrency=100_000
        ).remote()  # fmt: skip
        self._setup = ray.put(setup)
        self._work = ray.remote(work).options(
            num_cpus=setting.cpus, num_gpus=setting.gpus, max_retries=setting.retries
        )
        self._next = self._mailbox.take.remote()
        self._jobs: dict[Any, tuple[Job, bool]] = {}

    def start(self, job: Job, frame: bool) -> None:
        """See `Workers`. As many at once as there are processors for; where people judge, all: they take days."""
        self._queue.append((job, frame))
        self._fill()

    def _fill(self) -> None:
        while self._queue and len(self._jobs) < self._most:
            job, frame = self._queue.popleft()
            body = sendable(job, f"the job of {job.task.path!r}")
            self._jobs[self._work.remote(self._setup, body, job.task.path, frame, self._mailbox)] = job, frame

    def wait(self) -> tuple[list[Letter], list[Done]]:
        """See `Workers`."""
        from ray import cloudpickle

        waiting = [self._next, *self._jobs]
        self._ray.wait(waiting, num_returns=1, timeout=SECOND)
        come, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        letters: list[Letter] = []
        done: list[Done] = []
        for ref in come:
            if ref == self._next:
                letters = [Letter(number, path, cloudpickle.loads(body)) for number, path, body in self._taken()]
                self._next = self._mailbox.take.remote()
            else:
                job, framing = self._jobs.pop(ref)
                cases: tuple[Pool | None, ...] | None = cloudpickle.loads(self._result(ref, job))
                done.append(Done(job, cases if framing else None))
        self._fill()
        return letters, done

    def _taken(self) -> list[tuple[int, str, bytes]]:
        from ray.exceptions import RayError

        try:
            taken: list[tuple[int, str, bytes]] = self._ray.get(self._next)
        except RayError as error:
            raise RunError(
                f"Ray lost the actor through which workers reach this process ({type(error).__name__}); nothing judged "
                "is lost: the same command goes on"
            ) from error
        return taken

    def _result(self, ref: Any, job: Job) -> bytes:
        from ray.exceptions import RayError, RayTaskError

        try:
            made: bytes = self._ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, RRMError):
                raise error.cause from None
            raise
        except RayError as error:
            raise RunError(
                f"{job.task.path}: its worker was lost {self._setting.retries + 1} times ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}). If memory ran out, let fewer jobs run at once (cpus, gpus); nothing "
                "judged is lost: the same command goes on"
            ) from error
        return made

    def answer(self, letter: Letter, answer: object) -> None:
        """See `Workers`."""
        from ray import cloudpickle

        self._mailbox.answer.remote(letter.number, cloudpickle.dumps(answer))

    def stop(self) -> None:
        """See `Workers`."""
        self._queue.clear()
        refs = list(self._jobs)
        for ref in refs:
            self._ray.cancel(ref, force=True)
        if refs:
            self._ray.wait(refs, num_returns=len(refs), timeout=GRACE)
        self._jobs.clear()

    def close(self) -> None:
        """End Ray, if it is ours; else only what is ours in it."""
        self.stop()
        if self._ours:
            self._ray.shutdown()
        else:
            self._ray.kill(self._mailbox)


def _connect(setting: OnRay) -> bool:
    """Be connected to a Ray; whether that is a new connection."""
    import ray

    if ray.is_initialized():
        return False
    where = setting.where
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    ours = signal.getsignal(signal.SIGTERM)
    try:
        if where == "local":
            ray.init("local", include_dashboard=False, object_store_memory=setting.store << 20, **common)
        else:
            ray.init(where, **common)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise RunError(f"cannot use the Ray at {where!r}: {error}") from error
    finally:
        if callable(ours) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray takes it, and ends the process without a word
    return True


def _check_room(setting: OnRay, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RunError` if no machine has what one job asks for: it would wait for ever."""
    rooms = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(room.get("CPU", 0) >= setting.cpus and room.get("GPU", 0) >= setting.gpus for room in rooms):
        have = "; ".join(f"{room.get('CPU', 0):g} processors and {room.get('GPU', 0):g} GPUs" for room in rooms)
        raise RunError(
            f"a job asks for {setting.cpus} processors and {setting.gpus:g} GPUs, and no machine has them (there are: "
            f"{have}); give other cpus and gpus"
        )


class Hired:
    """Workers that are made when they are first needed, and let go when the run ends."""

    def __init__(self, make: Callable[[], RayWorkers]) -> None:
        self._make = make
        self._made: RayWorkers | None = None

    def __call__(self) -> RayWorkers:
        """They."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def __enter__(self) -> Hired:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            self._made.close()
