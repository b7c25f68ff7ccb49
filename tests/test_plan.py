"""`rrm plan` against the truth: what runs count, what loaded models hold, and what was published and measured."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import nn
from typer.testing import CliRunner

from rrm.command import cli
from rrm.core.errors import ConfigError, ModelError
from rrm.core.settings import Settings
from rrm.core.validation import plant
from rrm.loop.costs import CONTEXT, Costs, plan
from rrm.loop.planning import Pass, extents, works
from rrm.models.backbone import Backbone
from rrm.models.capacity import MEMORY, capacity_of
from rrm.models.device_spec import DeviceSpec
from rrm.models.model_shape import PUBLISHED, ModelShape
from rrm.models.packing import PrefixGroup, pack, shapes
from rrm.models.parking import Parking
from tests import toy
from tests.models.conftest import network, tokenizer
from tests.models.test_parking import Weights

ROOT = Path(__file__).parent.parent
H100, B200 = DeviceSpec.of("h100"), DeviceSpec.of("b200")
ONE_STEP = Pass("x", "step", "sample", 4, 8, 256, 1)


def rrm(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "80", "TERM": "dumb"})


# --- a model's sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smollm2", 134_515_008), ("qwen3-0.6b", 596_049_920), ("qwen3-8b", 8_190_735_360),
        ("llama-70b", 70_553_706_496),
    ],
)  # fmt: skip
def test_published_sizes(name: str, parameters: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RRM_CACHE", str(tmp_path))  # not those of a folder that was fetched
    assert ModelShape.of(name).parameters == parameters


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_a_loaded_model_holds_what_was_planned(adapters: Any, tmp_path: Path) -> None:
    """Parameters, what a token leaves in the cache, and the numbers of a fork, to the last one."""
    network(kv=2).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    planned = ModelShape.of(str(tmp_path))
    loaded = Backbone.load(str(tmp_path), adapters=adapters, device="cpu")
    assert planned.parameters == loaded.size and planned.way == "full"  # as "auto" would have it
    assert (planned.layers, planned.d, planned.vocabulary) == (loaded.layers, loaded.d, loaded.vocabulary)
    assert planned.kept == loaded.engine.kept and planned.limit == loaded.limit
    fork = sum(p.numel() for p in loaded.fork("one").parameters())
    if adapters == "full":
        assert planned.fork == fork
    else:
        from rrm.models.model_shape import _adapter

        assert _adapter(network(kv=2)) == fork


def test_the_embedded_model_and_its_optimizer() -> None:
    """Weights, copies, gradients and AdamW's moments in bytes, against tensors."""
    loaded, shape = Backbone.load("embedded"), ModelShape.of("embedded")
    task = plant(toy.task(assistants=(toy.sub("sub"),)))
    done = plan(task, shape, DeviceSpec.of("cpu"), extents(task, len))
    fork = loaded.fork("one")
    optimizer = torch.optim.AdamW(fork.parameters())
    for parameter in fork.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    def size(tensors: Any) -> int:
        return sum(t.numel() * t.element_size() for t in tensors if t.dim())

    assert done.memory["weights"] == size(loaded.model.parameters()) == done.loading
    assert done.memory["adapters"] == 2 * size(fork.parameters())  # two nodes, whose reward models are frozen on a CPU
    moments = [value for state in optimizer.state.values() for value in state.values()]
    gradients = [p.grad for p in fork.parameters()]
    assert done.memory["gradients and AdamW"] == size(moments) + size(gradients)


def test_a_model_is_loaded_in_the_precision_that_is_planned_for(tmp_path: Path) -> None:
    """If this fails, loading became cheaper, or dearer: then `Costs.loading` is wrong."""
    network().to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    from rrm.models.folders import read_pair

    shape = replace(ModelShape.of(str(tmp_path)), way="lora")
    for precision in ("auto", "bfloat16", "float32"):
        model, _ = read_pair("x", str(tmp_path), True, "", own=precision == "bfloat16")  # as `Backbone.load` asks
        held = sum(p.numel() * p.element_size() for p in model.parameters())
        assert Costs(shape, H100, precision).loading == held, precision  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_codes_are_planned_to_the_byte(precision: Any, tmp_path: Path) -> None:
    """Their linear layers and scales; a table of at most 256 numbers for each layer is left out."""
    config = network(hidden=256).config
    made = type(network())(config).to(torch.bfloat16)
    made.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    shape = replace(ModelShape.of(str(tmp_path)), way="lora")
    coded = Backbone.load(str(tmp_path), "lora", precision=precision).model
    coded.get_output_embeddings().to(torch.bfloat16)  # as large vocabularies stay
    parts = [*coded.named_parameters(), *((n, b) for n, b in coded.named_buffers() if n.endswith("scales"))]
    held = sum(p.numel() * p.element_size() for n, p in parts if "lora_" not in n)
    costs = Costs(shape, H100, precision)
    norms = sum(p.numel() for n, p in made.named_parameters() if "norm" in n)  # in bfloat16, and planned as linear
    assert abs(costs.weights - held) <= 2 * norms and costs.loading == costs.weights
    assert costs.weights < 0.75 * Costs(shape, H100, "bfloat16").weights


def test_a_model_of_70_b_fits_in_codes_where_it_does_not_otherwise() -> None:
    shape = ModelShape.of("llama-70b")
    two, four = Costs(shape, H100, "bfloat16"), Costs(shape, H100, "nf4")
    (why,) = two.too_large({"weights": two.weights, "logits": 1}, two.weights)
    assert "use --precision nf4" in why and not four.too_large({"weights": four.weights, "logits": 1}, four.weights)
    assert four.weights < 45e9 and four.seconds(ONE_STEP) > Costs(shape, B200, "bfloat16").seconds(ONE_STEP)


def test_as_many_adapters_are_planned_for_a_card_as_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.models.parking._move", lambda weights, where: None)
    shape = ModelShape.of("qwen3-8b")
    costs, size = Costs(shape, H100), 4 * shape.fork
    for nodes in (1, 2, 10, 100):
        forks = [Weights({"w": nn.Parameter(torch.empty(shape.fork, device="meta"))}) for _ in range(2 * nodes)]
        lot = Parking(lambda: torch.device("meta"), lambda: costs.free, lambda: None)
        for fork in forks:
            lot.add(fork)
        stay = sum(not fork.stay.away for fork in forks)
        assert 0 <= costs.there(2 * nodes * size) - stay * size < size, nodes
    assert stay == 89 and Costs(shape, DeviceSpec.of("cpu")).there(200 * size) == 200 * size
    (why,) = costs.too_large({"weights": costs.weights, "adapters": 9 << 33}, 10 << 33)
    assert "of what grows most is adapters (77.3): use fewer nodes" in why


def test_names_that_are_none() -> None:
    with pytest.raises(ModelError, match=r"did you mean 'qwen3-8b'.*llama-70b"):
        ModelShape.of("qwen3-9b")
    for wrong in ("h101", "80GB", "80GB,900TF", "0GB,900TF,3TB/s", "1.2.3GB,9TF,1TB/s"):
        with pytest.raises(ConfigError, match=r"h100, h200, b200, cpu"):
            DeviceSpec.of(wrong)
    assert DeviceSpec.of("80GB, 989TF, 3.35TB/s").memory == H100.memory
    assert len(PUBLISHED) == len(set(PUBLISHED))


# --- the same sizes as training ----------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
def test_batches_have_the_shapes_that_pack_makes(whole: bool) -> None:
    groups = [PrefixGroup(range(3 + 5 * i), [range(1 + j) for j in range(4)]) for i in range(6)]
    for budget in (16, 64, 4096):
        made = pack(groups, d=32, budget=budget, whole=whole)
        assert [tuple(one.ids.shape) for one in made] == shapes(groups, d=32, budget=budget, whole=whole)


def test_capacity_is_that_of_a_card_on_which_the_model_was_just_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ModelShape.of("qwen3-4b")
    free = H100.memory - CONTEXT - 2 * shape.parameters  # rounded
    assert Costs(shape, H100).capacity == capacity_of(torch.device("cuda"), shape.layers, shape.d, 2, free)
    monkeypatch.setenv(MEMORY, "8")
    assert Costs(shape, H100).capacity == capacity_of(torch.device("cuda"), shape.layers, shape.d, 2, 8 << 30)


def test_the_step_that_was_measured_comes_out() -> None:
    """docs/benchmarks-gpu.md: 1.9 to 2.1 s of sampling, 0.55 of reading, 1.1 to 1.3 of training; their shares were
    chosen by these two."""
    shape = replace(
        ModelShape.of("qwen3-0.6b"), parameters=494_032_768, linear=357_898_112, head=136_134_656, layers=24, d=896,
        attention=896, kept=6144,
    )  # fmt: skip
    costs = Costs(shape, DeviceSpec.of("h200"))
    for kind, seconds in (("sample", 2.0), ("read", 0.55), ("train", 1.2)):
        one = Pass("", "", kind, 64, 8, 64, 256)  # type: ignore[arg-type]
        assert costs.seconds(one) == pytest.approx(seconds, rel=0.1), kind


# --- against runs ------------------------------------------------------------------------------------


def test_counts_of_a_run(tmp_path: Path) -> None:
    """Outcomes of a node's own are exact; answers and judgements at most what was planned, and not much less; tokens
    read and trained on within a third, once lengths are known."""
    script = runpy.run_path(str(ROOT / "scripts" / "plan_check.py"))
    task = plant(script["small_paper"]())
    backbone = Backbone.load("embedded")
    tally = script["run"](task, backbone, tmp_path / "run")
    bound = extents(task, lambda prompt: len(backbone.render(prompt)))
    work = works(task, bound, frozen=True)
    planned = script["planned"](work)
    assert len(planned) == 4
    for one in work:
        path = one.task.path
        (own, answers), count = planned[path], tally.nodes[path]
        assert own == count.own, path
        assert 0.6 * answers <= count.answers <= answers, path
        assert 0.6 * one.judgements <= tally.judgements[path] <= one.judgements, path
    shape, device = ModelShape.of("embedded"), DeviceSpec.of("cpu")
    written = sum(count.tokens for count in tally.nodes.values())
    most, seen = (plan(task, shape, device, found) for found in (bound, script["seen"](bound, tally)))
    for what, truth in (("sampled", written), ("read", tally.read), ("trained", tally.trained)):
        at_most, known = (sum(getattr(node, what) for node in one.nodes) for one in (most, seen))
        assert truth <= at_most, what
        assert truth <= 1.05 * known and known <= 1.45 * truth, what


    (tmp_path / "same.py").write_text(
        f"import runpy\ntask = runpy.run_path({str(ROOT / 'scripts' / 'plan_check.py')!r})['small_paper']()\n"
    )
    like = rrm("plan", tmp_path / "same.py", "--model", "embedded", "--like", tmp_path / "run", "--json")
    assert like.exit_code == 0, like.output
    nodes = json.loads(like.output)["nodes"]
    assert 0.7 * written <= sum(node["sampled"] for node in nodes) <= 1.6 * written
    nothing = rrm("plan", "chip", "--model", "embedded", "--like", tmp_path / "run")
    assert nothing.exit_code == 2 and "has no comparison" in " ".join(nothing.output.split())
    none = rrm("plan", "paper", "--model", "embedded", "--like", tmp_path)
    assert none.exit_code == 2, none.output


@pytest.mark.parametrize(("improver", "n"), [("rloo", 4), ("dpo", 2), ("best_of_n", 1)])
def test_an_improver_trains_on_what_it_uses(improver: Any, n: int) -> None:
    task = plant(toy.task(settings=Settings(improver=improver, group=4, batch=3, steps=5)))
    (work,) = works(task, extents(task, len), True)
    assert sum(p.outcomes for p in work.passes if p.kind == "train") == work.rounds * 5 * 3 * n


def test_refreshed_assistants_train_longer_and_ever_deeper() -> None:
    inner = toy.sub("inner", settings=Settings(rounds=1))
    sub = toy.sub("sub", assistants=(inner,), settings=Settings(rounds=1, refresh=1))
    task = plant(toy.task(assistants=(sub,), settings=Settings(rounds=3, refresh=2)))
    rounds = {one.task.name: one.rounds for one in works(task, extents(task, len), True)}
    assert [*rounds.values()] == [1 + (5 - 1) * 1, 1 + (3 - 1) * 2, 3]


# --- the command -------------------------------------------------------------------------------------


def test_ten_nodes_on_eight_billion_can_be_read_on_eighty_columns(tmp_path: Path) -> None:
    names = [f"'s{i}'" for i in range(9)]
    subs = ", ".join(f"toy.sub({name})" for name in names)
    (tmp_path / "ten.py").write_text(f"from tests import toy\ntask = toy.task(assistants=({subs},))\n")
    done = rrm("plan", tmp_path / "ten.py", "--model", "qwen3-8b", "--gpus", 4)
    assert done.exit_code == 0, done.output
    tables = [line for line in done.output.splitlines() if not line.startswith(("Assumed", "judged:"))]
    for part in ("weights", "adapters", "AdamW", "activations", "keys and values", "GPU hours", "at best"):
        assert part in done.output
    assert all(f"s{i} " in done.output for i in range(9))
    assert max(map(len, tables)) <= 80
    told = json.loads(rrm("plan", tmp_path / "ten.py", "--model", "qwen3-8b", "--json").output)
    assert len(told["nodes"]) == 10 and told["problems"] == []
    assert told["seconds"] == pytest.approx(sum(node["seconds"] for node in told["nodes"]))
    assert told["memory"]["weights"] == 2 * 8_190_735_360
    longer = ("--set", "*.max_tokens=64", "--set", "*.group=8")
    small = rrm("plan", tmp_path / "ten.py", "--model", "qwen3-0.6b", "--device", "3.4GB,989TF,3TB/s", *longer)
    assert small.exit_code == 0 and "adapters 0.3 of 0.8 of all 10 nodes, float32; the others wait on the host" in (
        " ".join(small.output.split())
    ), small.output


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--model", "qwen3-32b"], 1, "is loaded in float32, 131.0 GB of 80.0: use --precision bfloat16,"),
        (["--model", "llama-70b", "--precision", "bfloat16"], 1, "141.1 GB of 80.0: use --precision nf4, one"),
        (["--model", "qwen3-0.6b", "--case", "top=50000"], 1, "exceed the model's context"),
        (["--case", "nobody=3"], 2, "no node 'nobody'"),
        (["--case", "top"], 2, "write NODE=TOKENS"),
        (["--length", "0"], 2, "share of max_tokens"),
        (["--device", "gpu"], 2, "no such device"),
        (["--model", "ppo"], 2, "its agents act"),
        (["--set", "top.steps=none"], 2, "steps"),
    ],
)
def test_what_it_refuses_and_what_does_not_fit(tmp_path: Path, arguments: list[str], code: int, why: str) -> None:
    (tmp_path / "tree.py").write_text("from tests import toy\ntask = toy.task(name='top')\n")
    done = rrm("plan", tmp_path / "tree.py", *arguments)
    assert done.exit_code == code and why in " ".join(done.output.split()), done.output
    assert "Traceback" not in done.output
