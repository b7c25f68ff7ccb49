"""What is proved holds wherever one looks, and what is refuted fails at the counterexample."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from rrm import BoundedUser, train
from rrm.command.cli import app
from rrm.core.errors import ConfigError
from rrm.models.last_norm import final_norm
from rrm.models.reward import LIMIT, ensemble
from rrm.trust import proving, solver
from rrm.trust.linear import LinearHeads, Ranges, bounds, can_rise, exactly, exceeds, never_rises
from rrm.trust.proving import Decided, Subject
from rrm.trust.shelf import kept
from rrm.view.reading import Reader
from tests import toy
from tests.test_resume import tiny

D, HEADS = 12, 4
FINDINGS = 3


def subject(seed: int, tilt: float = 1.0, scale: float = 1.0, caution: float = 0.5) -> Subject:
    """Random heads on a hidden state and what one assistant found. tilt: how much less they like what is called wrong;
    scale: the smaller, the sooner they are at their limit."""
    r = np.random.default_rng(seed)
    weight = r.normal(size=(HEADS, D + FINDINGS)).astype(np.float32)
    weight[:, D:] -= np.float32(tilt)
    shift = r.normal(size=HEADS).astype(np.float32)
    state = {"heads.weight": torch.tensor(weight), "norm.shift": torch.tensor(shift), "norm.scale": torch.tensor(scale)}
    four, one = (Fraction(0), Fraction(4)), (Fraction(0), Fraction(1))
    gain, offset = (exactly(r.uniform(*between, D).astype(np.float32)) for between in ((0.5, 1.5), (-0.2, 0.2)))
    heads = LinearHeads.of(state, LIMIT, caution)
    return Subject(heads, Ranges(D, gain, offset, (four, four, one)), ("a",), state, ())


def features(one: Subject, n: int, seed: int) -> Tensor:
    """(n, features) in the ranges, up to their ends."""
    r = np.random.default_rng(seed)
    z = r.normal(size=(n, D))
    z *= (math.sqrt(D) * r.uniform(0, 1, (n, 1)) ** 0.2) / np.linalg.norm(z, axis=1, keepdims=True)
    if n > HEADS:  # and where a head is at its highest and lowest
        own = one.state["heads.weight"][:, :D].numpy() * np.array([float(g) for g in one.ranges.gain or ()])
        z[:HEADS] = own / np.linalg.norm(own, axis=1, keepdims=True) * math.sqrt(D)
        z[HEADS : 2 * HEADS] = -z[:HEADS]
    hidden = z * [float(g) for g in one.ranges.gain or ()] + [float(b) for b in one.ranges.offset or ()]
    beside = r.choice([0.0, 0.5, 1.0], (n, FINDINGS)) * [4, 4, 1]
    return torch.tensor(np.concatenate([hidden, beside], 1))


def rewards(one: Subject, x: Tensor, caution: float) -> Tensor:
    """In double precision, so that rounding does not matter."""
    raw = x @ one.state["heads.weight"].double().T
    found = ensemble(raw, one.state["norm.shift"].double(), one.state["norm.scale"])
    return found.mean - caution * found.std


def decided(one: Subject, caution: float, within: bool = False) -> list[tuple[dict[int, Fraction], Fraction, Decided]]:
    return [
        (direction, amount, proving.decide(one, what, direction, amount, Fraction(caution), within))
        for what, direction, amount in proving.directions(one)
    ]


@pytest.mark.parametrize(("tilt", "scale"), [(0.0, 2.0), (0.8, 2.0), (2.5, 2.0), (2.5, 0.4)])
def test_what_is_proved_holds_and_counterexamples_are_some(
    tilt: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "there", lambda: False)
    verdicts = set()
    for seed in range(4):
        one = subject(seed, tilt, scale)
        for caution in (0.0, 0.5):
            for direction, amount, found in decided(one, caution):
                verdicts.add(found.verdict)
                if found.verdict == "holds":
                    x = features(one, 400, seed)
                    more = x.clone()
                    for i, per in direction.items():  # the rest of the way, at most
                        x[:, i] = 0
                        more[:, i] = float(per * amount) * torch.linspace(0.1, 1, len(x)) if amount > 1 else 1
                    assert (rewards(one, more, caution) <= rewards(one, x, caution) + 1e-9).all(), found.says
                elif found.verdict == "fails":
                    assert found.counterexample is not None
                    raw = base64.b64decode(found.counterexample["features"])
                    x = torch.tensor(np.frombuffer(raw, "<f4").astype(float))[None]
                    assert one.ranges.inside(exactly(x[0].tolist()))
                    more = x.clone()
                    for i, per in direction.items():
                        more[:, i] += float(per * amount)
                    assert rewards(one, more, caution) > rewards(one, x, caution), found.says
                    before, after = found.counterexample["before"], found.counterexample["after"]
                    assert after["mean"] - caution * after["std"] > before["mean"] - caution * before["std"] - 1e-4
    assert verdicts >= {0.0: {"fails"}, 2.5: {"holds"}}.get(tilt, set())


def test_z3_agrees() -> None:
    pytest.importorskip("z3", reason="needs the extra tools")
    said = set()
    for seed, tilt in ((0, 0.0), (1, 2.5)):
        one = subject(seed, tilt, 2.0)
        what, direction, amount = proving.directions(one)[0]
        for caution in (0, Fraction(1, 2)):  # it raises where the two contradict each other
            found = proving.decide(one, what, direction, amount, Fraction(caution), within=True)
            said.add((found.verdict, found.z3))
    assert {("holds", "it cannot rise"), ("fails", "it can rise")} <= said


def test_what_only_the_limit_lets_through() -> None:
    """Two heads, of which one likes what is called wrong a little, and the other dislikes it much: together they
    dislike it, unless the other is at its limit, where it cannot fall."""
    one = subject(0, 0.0, 1.0)
    weight = one.state["heads.weight"].clone()[:2]
    weight[0, D], weight[1, D] = 0.5, -3.0
    state = {"heads.weight": weight * 4, "norm.shift": torch.zeros(2), "norm.scale": torch.tensor(1.0)}
    heads = LinearHeads.of(state, LIMIT, 0.0)
    one = replace(one, heads=heads, state=state)
    _, _, anywhere = decided(one, 0.0)[0]
    _, _, within = decided(one, 0.0, within=True)[0]
    assert (anywhere.verdict, within.verdict) == ("fails", "holds")
    assert anywhere.counterexample is not None
    assert LIMIT in map(abs, anywhere.counterexample["heads_before"] + anywhere.counterexample["heads_after"])


def test_without_knowledge_of_the_hidden_state_nothing_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "there", lambda: False)
    one = subject(0, 0.0)
    blind = replace(one, ranges=Ranges(D, None, None, one.ranges.beside))
    assert {found.verdict for _, _, found in decided(blind, 0.5)} == {"not decided"}


def test_bounds_are_not_exceeded_and_not_far() -> None:
    for seed in range(4):
        one = subject(seed, scale=4.0)
        low, high, by = bounds(one.heads, one.ranges)
        seen = rewards(one, features(one, 4000, seed), 0.0)
        assert by == "weights" and float(low) <= seen.min() and seen.max() <= float(high)
        assert float(high - low) < 6 * float(seen.max() - seen.min())


@settings(max_examples=60, deadline=None)
@given(st.integers(-30, 30), st.integers(0, 60), st.integers(0, 60))
def test_roots_are_compared_exactly(a: int, p: int, q: int) -> None:
    exact = exceeds(Fraction(a, 4), Fraction(p), Fraction(q))
    about = a / 4 + math.sqrt(p) - math.sqrt(q)
    assert exact == (about > 0) if abs(about) > 1e-9 else not exact


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-8, 3), min_size=2, max_size=5), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_slope_is_at_most_what_is_said(slope: list[int], caution: float) -> None:
    v = np.array(slope, float)
    u = np.random.default_rng(0).normal(size=(60, len(v)))
    u[0] = v.mean() - v + 1e-6 * u[0]  # the worst
    step = 1e-4 / max(1.0, np.abs(v).max())
    gained = [(s + v * step).mean() - caution * (s + v * step).std() - s.mean() + caution * s.std() for s in u]
    exact = [Fraction(one) for one in slope]
    assert never_rises(exact, (False,) * len(v), Fraction(caution)) == (not can_rise(exact, Fraction(caution)))
    if not can_rise(exact, Fraction(caution)):
        assert max(gained) <= 1e-9


def test_the_last_normalization_is_found() -> None:
    backbone = tiny()
    norm = final_norm(backbone.start)
    assert norm is not None
    hidden = backbone.start.run(torch.tensor([[3, 5, 8, 13]]), torch.arange(4)[None], None)[0].detach()
    length = ((hidden - norm.offset) / norm.gain).square().sum(1)
    assert (length <= backbone.d * (1 + 1e-5)).all() and (length > 0.9 * backbone.d).all()


def test_a_run_is_proved_and_bounded_for_its_certificate(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(toy.task(assistants=(toy.sub(),)), BoundedUser(), tiny(), out)
    for command in (["prove", str(out), "toy"], ["bound", str(out)]):
        said = CliRunner().invoke(app, command)
        assert said.exit_code == 0, said.output
    with Reader(out) as run:
        chapters, _ = kept(out, run, "toy")
    proofs, bound = (chapters[name].found[0]["found"]["statements"] for name in ("formal_verification", "guarantees"))
    assert any("toy/sub" in one["statement"] for one in proofs)
    assert {one["verdict"] for one in proofs} <= {"holds", "fails", "not decided"}
    assert all(("at most" in one) != ("not known" in one) for one in bound)
    json.dumps(proofs, allow_nan=False)
    refused = CliRunner().invoke(app, ["prove", str(out), "toy", "--up-to", "5"])
    assert refused.exit_code == 2 and "is none" in refused.output


def test_without_z3_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "there", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[tools\]'"):
        solver.search_rise([Fraction(1)], [None], Fraction(1), Fraction(0), None)
