"""A certificate is read as it is written: readers of JSON differ in what they make of anything else."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rrm.trust.certifying import file_of
from rrm.trust.differing import differences
from rrm.trust.signing import sign
from rrm.trust.statement import CertificateError, read_payload
from tests.trust.test_certificates import certified, checked, key, kinds, read, run
from tests.trust.test_forged_entries import audit, forged, put

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")
Change = Callable[[str], str]


def instead(pattern: str, text: str) -> Change:
    """In a payload, once."""
    return lambda body: re.sub(pattern, lambda found: text.replace("NUMBER", found[1] if found.groups() else ""), body,
                               count=1)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        instead(r'"size":(\d+)', '"size":"NUMBER"'),
        instead(r'"judged":(\d+)', '"judged":NUMBER.0'),
        instead(r'"judged":(\d+)', '"judged":"NUMBER"'),
        instead(r'"judged":', '"judged":7,"judged":'),
        instead(r'"judged":', '"\\u006audged":7,"judged":'),
        instead(r'"seed":0,', '"seed":false,'),
        instead(r'"people":0', '"people":false'),
        instead(r'"value":0\.0', '"value":0'),
        instead(r'"value":0\.0', '"value":NaN'),
        instead(r'"value":0\.0', '"value":-Infinity'),
        instead(r'"value":0\.0', '"value":1e999'),
        instead(r'"value":0\.0', '"value":"0.0"'),
        instead(r'"version":3', '"version":3.0'),
        instead(r'"subject":\[\{', '"subject":[{"uri":"x",'),
        instead(r'"digest":\{"sha256":"([0-9a-f]*)"', '"digest":{"sha256":7'),
        instead(r'"settings":\{', '"settings":{"x":' + "[" * 900 + "]" * 900 + ","),
    ],
)
def test_what_is_written_in_another_way_is_no_certificate(change: Change, certified: Path) -> None:
    body = read(file_of(certified / "certificates", "toy")).decode()
    assert read_payload(body.encode()) and read_payload(json.dumps(json.loads(body), indent=3).encode())
    assert change(body) != body
    with pytest.raises(CertificateError):
        read_payload(change(body).encode())


def test_zero_has_a_sign_in_what_follows_from_the_records(run: Path, key: Path) -> None:
    path = file_of(run / "certificates", "toy")
    body = instead(r'"value":0\.0', '"value":-0.0')(read(path).decode())
    path.write_bytes(sign(body.encode(), key))
    (fault,) = checked(run, key).faults
    assert "it says -0.0, and the records 0.0" in fault.what
    assert not [*differences([0.0, 1, True, 1.0], [0.0, 1, True, 1.0])]
    assert len([*differences([-0.0, 1, True, 1.0], [0.0, True, 1.0, 1])]) == 4


def test_an_envelope_says_everything_once_and_nothing_else(run: Path, key: Path) -> None:
    path = file_of(run / "certificates", "toy")
    good = path.read_text()
    given = json.loads(good)
    (one,) = given["signatures"]
    bodies = [
        '{"payload": "e30=",' + good[1:], good.rstrip()[:-1] + ', "signatures": []}',
        good.replace('"sig":', '"sig": "00", "sig":'),
        *(json.dumps({**given, "signatures": signatures}) for signatures in (
            [{**one, "by": "x"}], [{**one, "sig": 5}], [{"sig": one["sig"]}], {"a": 1}, ["x"], 5)),
    ]  # fmt: skip
    for body in bodies:
        assert body != good
        path.write_text(body)
        assert kinds(checked(run, key)) == {"format"}, body[:80]


def test_the_same_audit_is_not_there_twice(run: Path, key: Path) -> None:
    twice = forged(run, key, put("audits", audit(), copy.deepcopy(audit())))
    assert [fault.what for fault in twice.faults] == ["testing.audits[1] is there twice"]
    alike: dict[str, Any] = audit("gain")
    assert not forged(run, key, put("audits", audit(), alike)).faults
