"""Two processes against one: what is dealt out, exchanged and summed is what one process computes by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rrm.core.errors import ModelError, RRMError
from rrm.core.parallel import World, join, place, started
from rrm.models.convoy import own_device
from tests.parallel import pieces
from tests.parallel.launch import WORKER, both

TOLERANCE = {"scores": 1e-4}
"""Absolute, beside a relative 1e-4, by the end of a number's name; of gradients and weights 1e-5."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("two")
    code, _, err = both(*WORKER, "compute", out)
    assert code == 0, err
    return [load_file(out / f"{rank}.safetensors") for rank in range(2)]


@pytest.fixture(scope="module")
def one() -> dict[str, Tensor]:
    return pieces.pieces(World())


@pytest.mark.slow
def test_both_processes_hold_the_same_bits(two: list[dict[str, Tensor]]) -> None:
    assert two[0].keys() == two[1].keys()
    assert [name for name in two[0] if not torch.equal(two[0][name], two[1][name])] == []


@pytest.mark.slow
def test_outcomes_are_those_of_one_process_to_the_bit(one: dict[str, Tensor], two: list[dict[str, Tensor]]) -> None:
    for adapters in ("full", "lora"):
        assert torch.equal(one[f"{adapters} tokens"], two[0][f"{adapters} tokens"])
        torch.testing.assert_close(
            one[f"{adapters} kept logprobs"], two[0][f"{adapters} kept logprobs"], rtol=0, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("adapters", ["full", "lora"])
@pytest.mark.parametrize(
    "part", ["reference", "gradient", "rloo", "dpo", "best_of_n", "trained", "frozen"]
)
def test_numbers_are_those_of_one_process(
    one: dict[str, Tensor], two: list[dict[str, Tensor]], adapters: str, part: str
) -> None:
    names = [name for name in one if name.startswith(f"{adapters} {part}")]
    assert names
    for name in names:
        atol = TOLERANCE.get(name.split()[-1], 1e-5)
        torch.testing.assert_close(two[0][name], one[name], rtol=1e-4, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_a_model_that_is_shared_out_computes_the_same(two: list[dict[str, Tensor]], tmp_path: Path) -> None:
    """Samples, log-probabilities, gradients, policy steps, fits."""
    code, _, err = both(*WORKER, "parted", tmp_path)
    assert code == 0, err
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert found.keys() == {name for name in two[rank] if name.startswith("lora ")}
        assert torch.equal(found["lora tokens"], two[rank]["lora tokens"])
        for name, value in found.items():
            # A model that is shared out computes its norms otherwise; a sum is as right as its largest entry is large.
            atol = max(TOLERANCE.get(name.split()[-1], 1e-5), 1e-5 * two[rank][name].abs().max().item())
            torch.testing.assert_close(value, two[rank][name], rtol=1e-4, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["convoy", "halved"])
def test_processes_of_a_shared_model(tmp_path: Path, what: str) -> None:
    """See `tests.parallel.sharing`: they compute differently much, and nobody waits for nobody; in bfloat16, too."""
    code, _, err = both(*WORKER, what, tmp_path)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"0.done", "1.done"}


@pytest.mark.slow
def test_a_process_of_a_shared_model_that_is_killed_is_noticed(tmp_path: Path) -> None:
    code, _, err = both(*WORKER, "deserted", tmp_path)
    assert code != 0 and [path.name for path in tmp_path.iterdir()] == ["noticed"], err


def test_a_process_alone_shares_nothing_out() -> None:
    with pytest.raises(ModelError, match=r"torchrun --nproc_per_node N .* precision='nf4'"):
        pieces.Backbone.load("embedded", "lora", shard=True)


@pytest.mark.parametrize(
    ("cards", "asked", "found"),
    [(0, "auto", "cpu"), (2, "auto", "cuda:1"), (2, "cuda", "cuda:1"), (2, "cpu", "cpu"), (1, "auto", "cpu"),
     (1, "cuda", None), (0, "cuda", None), (2, "mps", None)],
)  # fmt: skip
def test_each_process_has_a_gpu_of_its_own_or_none_has(
    monkeypatch: pytest.MonkeyPatch, cards: int, asked: str, found: str | None
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    if found is None:
        with pytest.raises(ModelError, match="a GPU for each of the 2 processes"):
            own_device("m", asked)
    else:
        assert str(own_device("m", asked)) == found


@pytest.mark.slow
def test_the_comparison_is_of_something(one: dict[str, Tensor]) -> None:
    """The weights moved, the scores differ: equal zeros would prove nothing."""
    start = pieces.Backbone("tiny", pieces.network(), pieces.tokenizer(), "full").fork("start").state()
    for name in pieces.IMPROVERS:
        moved = max(float((one[f"full {name} {key}"] - value).abs().max()) for key, value in start.items())
        assert moved > 1e-3
    for how in ("trained", "frozen"):
        assert one[f"full {how} scores"].std() > 0.1
    assert one["full gradient model.norm.weight"].abs().max() > 1e-2


@pytest.mark.parametrize("failure", [RRMError("the case is too long"), None])
def test_what_ended_the_work_is_told_and_not_that_a_pass_was_left(failure: RRMError | None) -> None:
    """Of a shared model: an error in the middle of a pass makes waiting for the others impossible."""
    world, left = World(), RRMError("left a pass before its last layer")

    def idle() -> None:
        raise left

    world.idle = idle
    with pytest.raises(RRMError) as raised:
        world._wait_idle(failure)
    assert raised.value is (failure or left)


def test_three_ways_of_working_together_and_their_errors(tmp_path: Path) -> None:
    code, _, err = both(*WORKER, "exchange+sums", tmp_path)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"0.exchanged", "1.exchanged", "0.done", "1.done"}


def test_a_process_alone_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    world = World()
    assert world.main and (world.rank, world.size) == (0, 1) and started() == (0, 1) == place()
    assert world.each([3, 1, 2], sorted) == [1, 2, 3]  # handed over whole
    assert world.once(lambda: 5) == 5 and world.share(3) == range(3) and world.add_up([], 7) == 7
    with pytest.raises(ZeroDivisionError):  # errors come through as they are
        world.once(lambda: 1 // 0)
    with pytest.raises(ValueError, match="odd"), world.apart():
        raise ValueError("odd")


@pytest.mark.parametrize(
    ("cards", "beside", "asked"),
    [(0, 2, "gloo"), (2, 2, "cuda:nccl,cpu:gloo"), (8, 2, "cuda:nccl,cpu:gloo"), (1, 2, "gloo")],
)
def test_gradients_go_over_nccl_where_each_process_has_a_gpu(
    monkeypatch: pytest.MonkeyPatch, cards: int, beside: int, asked: str
) -> None:
    """Asked of accelerate only: there are no GPUs here. Started as by mpirun, whose names accelerate does not know."""
    import accelerate
    from torch import distributed

    made: list[tuple[object, ...]] = []

    class State:
        process_index, num_processes = 1, 2

        def __init__(self, cpu: bool = False, **more: object) -> None:
            made.append((cpu, more["backend"], os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"]))

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # taken back afterwards, whatever `join` sets
        monkeypatch.delenv(name)
    for name, value in {"RANK": 1, "SIZE": 2, "LOCAL_RANK": 1, "LOCAL_SIZE": beside}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(accelerate, "PartialState", State)
    monkeypatch.setattr(distributed, "new_group", lambda backend, timeout: backend)
    join.cache_clear()
    try:
        assert (join().rank, join().size) == (1, 2)
    finally:
        join.cache_clear()
    assert made == [(asked == "gloo", asked, "1", "2")]


def test_what_accelerate_does_not_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    join.cache_clear()
    assert join().size == 1  # one was asked for: no warning (pytest would show it as an error here)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    join.cache_clear()
    with pytest.warns(UserWarning, match="torchrun --nproc_per_node .* accelerate launch --multi_gpu"):
        assert join().size == 1
    join.cache_clear()


