"""How much a device is given at once."""

import pytest
import torch

from rrm.core.errors import ConfigError
from rrm.models.capacity import GIB, capacity_of, free_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_processors_sizes_do_not_hang_on_its_memory():
    small, large = capacity_of(CPU, 30, 576, 4, None), capacity_of(CPU, 36, 4096, 2, None)
    assert (small.training, small.reading, large.training) == (868, 4096, 512)
    assert small.logits == 1 << 24 and small.rows == 512 and small.cache == GIB


@pytest.mark.parametrize(("layers", "d"), [(30, 576), (24, 896), (36, 4096), (80, 8192)])
def test_a_gpus_sizes_fit_into_what_is_free(layers, d):
    for free in (1 << 28, 8 * GIB, 70 * GIB):
        found = capacity_of(GPU, layers, d, 2, free)
        activations = found.training * layers * d * 2 * 40
        assert activations <= max(free // 2, 512 * layers * d * 2 * 40)  # a pass has 512 cells at least
        assert found.cache <= max(free // 2, GIB // 4) and found.logits * 16 <= max(free // 8, 16 << 24)
        assert found.training <= found.reading


def test_a_little_more_memory_changes_nothing_and_much_more_does():
    some = capacity_of(GPU, 24, 896, 2, 40 * GIB)
    assert some == capacity_of(GPU, 24, 896, 2, 40 * GIB + 300_000_000) == capacity_of(GPU, 24, 896, 2, 33 * GIB)
    assert some.training < capacity_of(GPU, 24, 896, 2, 65 * GIB).training


def test_memory_can_be_said(monkeypatch):
    assert free_memory(CPU) is None
    monkeypatch.setenv("RRM_MEMORY", "20")
    assert free_memory(GPU) == 20 * GIB and free_memory(CPU) is None
    for wrong in ("0", "-1", "much", "inf", ""):
        monkeypatch.setenv("RRM_MEMORY", wrong)
        with pytest.raises(ConfigError, match="RRM_MEMORY"):
            free_memory(GPU)
