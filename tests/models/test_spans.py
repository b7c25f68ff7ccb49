"""Features where parts of a segment end: those of the segment cut there, whatever stands after it or beside it."""

import pytest
import torch

from rrm.models.features import SURPRISE, read_case, read_spans
from rrm.models.packing import PrefixGroup

CASE = PrefixGroup([5, 6, 7], [[8, 9, 10, 11, 12], [13, 14], [15, 16, 17]])
SPANS = [[(0, 2), (2, 5)], [(0, 2)], [(1, 3), (0, 3), (2, 3)]]


@pytest.mark.parametrize("kv", [1, 4])
def test_a_part_is_read_as_if_the_segment_ended_there(tiny, kv):
    b = tiny(kv=kv)
    with torch.no_grad():
        together = read_spans(b.start, CASE, SPANS)
        for segment, spans, rows in zip(CASE.segments, SPANS, together, strict=True):
            assert rows.shape == (len(spans), b.d + SURPRISE)
            for (first, stop), row in zip(spans, rows, strict=True):
                cut = PrefixGroup(CASE.prefix, [segment[:stop]])
                alone = read_case(b.start, cut, [stop], surprised=True)[0]
                torch.testing.assert_close(row[: b.d], alone[: b.d], atol=1e-5, rtol=1e-4)
                if first == 0:
                    torch.testing.assert_close(row[b.d :], alone[b.d :], atol=1e-5, rtol=1e-4)


def test_the_surprises_of_the_parts_add_up(tiny):
    b = tiny()
    with torch.no_grad():
        first, rest, whole = read_spans(b.start, CASE, [[(0, 2), (2, 5), (0, 5)], [(0, 2)], [(0, 3)]])[0]
    torch.testing.assert_close(first[-1] + rest[-1], whole[-1])  # sums of log-probabilities
    assert not torch.allclose(first, rest)
