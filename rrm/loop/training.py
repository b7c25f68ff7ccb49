"""`rrm.train`: a tree, a user and a model in; the finished root assistant and its run folder out."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.core import border
from rrm.core.contracts import ContractError, expect
from rrm.core.errors import ConfigError, Notice
from rrm.core.parties import Computing, Informed, Maker, Recording, User, Watch
from rrm.core.task import Assistant, Task
from rrm.core.validation import check
from rrm.store.tags import retag, tag_named

if TYPE_CHECKING:
    from rrm.learning.text_maker import TextMaker
    from rrm.loop.on_ray import OnRay
    from rrm.models.backbone import Backbone
    from rrm.models.vllm_sampler import VLLMSampler

ACTING = ("ppo", "a2c", "dqn", "sac", "td3", "ddpg")
"""Names of what acts in environments instead of writing: see `rrm.acting`."""


def _named(model: str) -> tuple[str, str, str] | None:
    """Algorithm, options as they were written, who writes; None if this is no name of agents that act."""
    algorithm, bracket, rest = model.partition("(")
    given = plus = writing = ""
    if not bracket or "+" in algorithm:
        algorithm, plus, writing = model.partition("+")
    elif rest.endswith(")"):
        given = rest[:-1]
    else:
        given, plus, writing = rest.rpartition(")+")
        plus = plus or ")+"  # without it the bracket is open: no name
    return None if algorithm not in ACTING or (plus and not writing) else (algorithm, given, writing)


def acts(model: object) -> bool:
    """Whether this is the name of agents that act: "ppo", "ppo(ent_coef=0.05)" with options of its own,
    "ppo(imagine=12)" with a model of its environment (`rrm.acting.Imagine`), "ppo(absorbing=True)" where episodes go on
    after their end, "ppo(fallback=0.99)" where it falls back on a safe action (`rrm.acting.Fallback`), or
    "ppo+embedded-games" where some nodes of a tree write."""
    return _named(str(model)) is not None


def _acting(model: str) -> Maker:
    """Raises `ConfigError` for options that are none."""
    from rrm.acting import Acting, Fallback, Imagine
    from rrm.learning.text_maker import TextMaker
    from rrm.models.backbone import Backbone

    found = _named(model)
    assert found is not None
    algorithm, given, writing = found
    options: dict[str, Any] | None = None
    with suppress(SyntaxError, ValueError, TypeError):
        call = ast.parse(f"options({given})", mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            options = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
            options = None if "None" in options or len(options) < len(call.keywords) else options
    if options is None:
        raise ConfigError(
            f"the options ({given}) of {algorithm}: give NAME=VALUE, as in \"ppo(ent_coef=0.05, gamma=1.0)\", with "
            "Stable-Baselines3's names, each once, and numbers, texts, True, False or None"
        )
    plans = Imagine.of(options.pop("imagine")) if "imagine" in options else None
    absorbing, fallback = options.pop("absorbing", False), options.pop("fallback", None)
    if not isinstance(absorbing, bool):
        raise ConfigError(f"absorbing={absorbing!r}: give True or False")
    guarded = None if fallback is None else Fallback.of(fallback)
    words = TextMaker(Backbone.load(writing)) if writing else None
    return Acting(algorithm, options, imagine=plans, absorbing=absorbing, fallback=guarded, words=words)


def train(
    task: Task,
    user: User,
    model: str | Path | Backbone | Maker = "embedded",
    out: str | Path = "runs/run",
    seed: int = 0,
    watch: Sequence[Watch] = (),
    on: str | None = None,
    sampler: str = "own",
    command: str = "",
    tags: Sequence[str] = (),
) -> Assistant:
    """Train a task tree from the leaves up. The same call again resumes an interrupted run.

    Where torchrun started several processes, all of them make this call, share its work, and return the same.

    Parameters
    ----------
    task: the root; its tree is checked first (`TaskError` names everything wrong).
    user: who judges, at every node.
    model: "embedded", a folder, a hub name, or a loaded backbone: language models; "ppo", "a2c", "dqn", "sac", "td3",
        "ddpg": agents that act in environments (`rrm.acting`), "ppo(ent_coef=0.05)" with options of
        Stable-Baselines3's, "ppo+embedded" with a language model for the nodes that write; or any other maker of agents
        and reward models (`Maker`).
    out: the run folder. A folder of a run with other settings, or in which another process trains, is refused
        (`RunError`).
    seed: decides everything random.
    watch: called with (node, event) as things happen, in the main process; see `rrm.core.judgements.Event`.
    on: "ray", or "ray:gpus=1,cpus=4": nodes that are ready train side by side, on Ray (`rrm.loop.on_ray.OnRay`), the
        root here; all with `cpus` threads, with which a run without `on` gives the same. `ConfigError` if Ray is not
        installed, `RunError` for what cannot be sent to another process.
    sampler: "own": the model itself; "vllm:URL": a vLLM server that was started on the same model, to which every
        agent's adapter is sent (`rrm.models.vllm_sampler.VLLMSetting`). A model given by name is then loaded with
        adapters, however small. `ConfigError` if it cannot be read.
    command: what was typed, if anything was; kept in config.json for whoever asks how the run was made (`rrm report`),
        and compared with nothing.
    tags: words to find the run by, added to those it has (`rrm.store.tags`); nothing is trained otherwise for them.
        `ConfigError` for one of more than 40 characters.
    """
    from rrm.core.parallel import join  # late, all: torch takes seconds, and looking at a run does without it
    from rrm.loop.lock import locked
    from rrm.loop.provenance import origins_of
    from rrm.loop.recursion import solve
    from rrm.loop.run import Run

    setting = None if on is None else _on_ray(on)
    if isinstance(tags, str):
        raise ConfigError(f"tags={tags!r}: give a list of them, such as [{tags!r}]")
    given = [tag_named(tag) for tag in tags]
    _somebody(user)
    border.said(user.name, f"{task.name}: the user's name")
    task = check(task)
    supply = task.cases
    assert supply is not None  # checked
    engine = None
    if sampler != "own":
        engine, model = _sampled_by(sampler, model)  # theirs while this call lasts
    maker = maker_of(model)
    maker.world = join()
    config = describe(task, user, maker, seed)
    if engine is not None:
        config["model"]["sampler"] = "vllm"
    drawn = border.drawn(lambda: supply.draw(4, "about"), f"cases of {task.path!r}", 4)
    config["cases"] = [case.id for case in drawn]  # others, if a prompt or a difficulty changed
    if (prompts := getattr(maker, "prompts", None)) is not None:  # of language models: what becomes of a prompt
        config["model"]["prompts"] = prompts
    for doubt in getattr(maker, "doubts", lambda cases: [])(drawn):
        warnings.warn(f"{task.path}: {doubt}", Notice, stacklevel=2)
    with locked(out, maker.world), ExitStack() as stack:
        if engine is not None:
            stack.callback(_returned, engine, maker)
        if setting is not None:
            stack.enter_context(computing_with(setting.cpus))
        run = Run(out, maker, seed, watch)
        run.configure(config, origins_of(task, maker) | ({"command": command} if command else {}))
        for one in run.watch:
            if isinstance(one, Informed):
                one.informed(maker.computing if isinstance(maker, Computing) else "")
        if given:
            maker.world.once(lambda: retag(run.out, given))
        for part in (user, maker, *(a.agent for n in task.walk() for a in _finished(n.assistants))):
            if isinstance(part, Recording):
                part.record(run.out)
        if setting is not None:
            from rrm.loop import on_ray
            from rrm.loop.ahead import Ahead
            from rrm.loop.recipe import Recipe

            setup = on_ray.setup_of(Recipe.of(model, maker_of), task, maker, user, run.out, setting, run.decided)
            workers = stack.enter_context(on_ray.Hired(partial(on_ray.RayWorkers, setting, setup)))
            run.executor = Ahead(workers)
        return solve(task, supply, user, run)


def _sampled_by(
    sampler: str, model: str | Path | Backbone | Maker
) -> tuple[VLLMSampler, Backbone | TextMaker]:
    """The engine, and the language model, or the maker over one, whose agents it samples as. Raises `ConfigError`, and
    `ModelError` if the model cannot be loaded or has no adapters."""
    from rrm.learning.text_maker import TextMaker
    from rrm.models.backbone import Backbone
    from rrm.models.vllm_sampler import VLLMSampler, VLLMSetting

    engine = VLLMSampler(VLLMSetting.read(sampler))
    if isinstance(model, str | Path) and not acts(model):
        model = Backbone.load(str(model), adapters="lora")
    if not isinstance(model, Backbone | TextMaker):
        raise ConfigError(f"sampler {sampler!r}: it samples from language models, and {model!r} is none")
    backbone = model if isinstance(model, Backbone) else model.backbone
    if backbone.sampler is not None:
        raise ConfigError(f"sampler {sampler!r}: the model given has a sampler already; leave one of them out")
    backbone.sampler = engine
    return engine, model


def _returned(engine: VLLMSampler, maker: Maker) -> None:
    """What the engine was given is taken from it, and the model samples by itself again."""
    maker.backbone.sampler = None  # type: ignore[attr-defined]
    engine.close()


def _on_ray(on: str) -> OnRay:
    """Where nodes train side by side. Raises `ConfigError` if it cannot be read, Ray is not installed, or several
    processes train each node."""
    from rrm.core.parallel import started
    from rrm.loop.on_ray import OnRay, ready

    setting = OnRay.read(on)
    ready(setting)
    if started()[1] > 1:
        raise ConfigError(
            f"on {on!r}: Ray starts the processes; start rrm as one, or leave this out for several processes at each "
            "node"
        )
    return setting


@contextmanager
def computing_with(n: int) -> Iterator[None]:
    """Within it torch computes with so many."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _somebody(user: object) -> None:
    """Raise `ContractError` if this is no user; a name of one, or its class, is a likely mistake."""
    if isinstance(user, str):
        raise ContractError(
            f"user is the text {user!r}; give a user: rrm.BoundedUser() (simulated), rrm.HumanUser() (people, see `rrm "
            "label`), or one of your own. Names such as --user bounded are for the command line."
        )
    if isinstance(user, type):
        raise ContractError(f"user is the class {user.__name__}; give one of them: {user.__name__}()")
    expect(user, User, "user")


def maker_of(model: str | Path | Backbone | Maker) -> Maker:
    """Who makes agents and reward models: over a language model, or one of another kind as it is.

    Raises `ModelError` if a model cannot be loaded, `ContractError` for what is no maker.
    """
    from rrm.learning.text_maker import TextMaker
    from rrm.models.backbone import Backbone
    from rrm.models.precision import limit_threads

    limit_threads()
    if acts(model):
        return _acting(str(model))
    if isinstance(model, str | Path):
        return TextMaker(Backbone.load(str(model)))
    if isinstance(model, Backbone):
        return TextMaker(model)
    expect(model, Maker, "model")
    return model


def _finished(assistants: Iterable[Task | Assistant]) -> Iterator[Assistant]:
    """Those that were finished elsewhere, and their own assistants."""
    for one in assistants:
        if isinstance(one, Assistant):
            yield one
            yield from _finished(one.helpers)


def describe(task: Task, user: User, model: Backbone | Maker, seed: int) -> dict[str, Any]:
    """What decides a run's result, as config.json keeps it."""
    return {
        "tree": {
            node.path: {"settings": node.settings.model_dump(), "instruction": node.instruction}
            | ({"tools": {tool.name: tool.version for tool in node.tools}} if node.tools else {})
            for node in task.walk()
        },
        "finished": {
            a.task.path: a.version for n in task.walk() for a in n.assistants if isinstance(a, Assistant)
        },
        "user": {"name": user.name, **(user.model_dump() if hasattr(user, "model_dump") else {})},
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "seed": seed,
    }
