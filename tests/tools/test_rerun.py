"""Running a stated computation again: it agrees, it differs, or there is no verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import Case, Outcome
from rrm.core.tools import consult
from rrm_assistants.tools.rerun import Rerun, agrees, computation
from rrm_assistants.tools.sandbox import Limits

TOOL = Rerun(Limits(cpu=1))


def report(text: str):
    return consult(TOOL, Case("q"), Outcome(text))


@pytest.mark.parametrize(
    "text, holds",
    [
        ("Computation:\n```python\nxs = [71, 74, 78]\nprint(sum(xs) / len(xs))\n```\nResult: 74.33", True),
        ("Computation:\n```\nxs = [71, 74, 78]\nprint('mean', sum(xs) / len(xs))\n```\nResult: 74.9 percent", False),
        ("Computation: (71 + 74 + 78) / 3\nResult: 74.33", True),
        ("Computation: `12*12` = 144\nResult: about 144", True),
        ("**Computation:** 12*12\n**Result:** 145", False),
        ("Computation: 1e3\nResult: 1,000", True),
        ("Computation: 2/3\nResult: .67", True),
        ("Computation: 2/3\nResult: 0.66", False),
        ("Computation: 3 - 5\nResult: −2", True),
        ("Computation: 1/4\nResult: 25 %", True),
        ("Computation: 1/4\nResult: 0.25", True),
        ("Computation: 1/4\nResult: 26 %", False),
    ],
)
def test_examples(text, holds):
    (finding,) = report(text).findings
    assert (finding.fact, finding.holds) == ("result", holds)
    assert bool(finding.note) is not holds


def test_what_differs_is_quoted():
    (finding,) = report("Computation: 12*12\nResult: 145 pages").findings
    assert finding.note == '"145 pages": it is 144'


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "no computation"),
        ("Result: 4", "no computation"),
        ("Computation: 3*4", "no number"),
        ("Computation: 3*4\nResult: twelve", "no number"),
        ("Computation: open('/etc/passwd')\nResult: 3", "could not be run"),
        ("```\nimport os\nprint(3)\n```\nResult: 3", "importing 'os'"),
        ("```\nwhile True: pass\n```\nResult: 3", "could not be run"),
        ("Computation: 1/0\nResult: 3", "ZeroDivisionError"),
        ("```\nprint('none')\n```\nResult: 3", "prints no number"),
        ("Computation: 3 +\nResult: 3", "no program"),
        ("Computation: 1234.5\nResult: 1.234,5", "is not read"),
        ("Computation: 1000\nResult: 1 000", "is not read"),
        ("Computation: 1000\nResult: 1\u202f000", "is not read"),
        ("Computation: 3/4\nResult: 3/4", "is not read"),
        ("Computation: 3e8\nResult: 3 x 10^8", "is not read"),
        ("Computation: 5000\nResult: 5k", "is not read"),
        ("Computation: 1/2\nResult: $\\frac{1}{2}$", "is not read"),
        ("Computation: 4\nResult: of 5 pages, 4", "several numbers"),
    ],
)
def test_what_cannot_be_run_is_no_verdict(text, why):
    found = report(text)
    assert not found.findings and why in found.abstained


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1000, max_value=1000), st.integers(0, 5))
def test_a_rounded_number_agrees_and_the_next_one_does_not(number, digits):
    stated = round(number, digits)
    assert agrees(f"{stated:.{digits}f}", str(number))
    assert not agrees(f"{stated + 2 / 10 ** type(stated)(digits):.{digits}f}", str(number))


@given(st.text(max_size=200))
def test_any_text_is_taken_apart(text):
    assert computation(text) is None or isinstance(computation(text), str)
