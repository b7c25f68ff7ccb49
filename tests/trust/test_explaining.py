"""What moved a reward model: pieces sum to the difference, shares to 1, and a word is read or not by edits alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rrm import Case, Fact, Malformed, Outcome, Pool, Sealed, Task
from rrm.command.cli import app
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Group
from rrm.models.attribution import READING, SURPRISED, finding_part, less, parts_of
from rrm.models.reward import TextRewardModel
from rrm.store.journal import Journal
from rrm.trust import explaining, word_probe
from rrm.trust.exchanging import SAID, WORDS, exchanged, stretches
from rrm.trust.explaining import explain, probe_words
from rrm.trust.moving import sentence, shares
from rrm.trust.shelf import kept
from rrm.trust.word_probe import _Form, _places, _with
from rrm.view.attributions import attributed, file_of
from rrm.view.reading import Reader
from rrm.worlds.papers import Briefs, facts
from tests import toy
from tests.models.test_attribution import NAMES, reward, said
from tests.test_resume import tiny
from tests.view import synthetic

TEXTS = Outcome("w4 w7 w8 w12 w3"), Outcome("w4 w9 w8 w3 w20")
PAIR = Pair("top", Case("w5 w9"), *TEXTS, said(True, True), said(False, True))
ONE = Comparison(PAIR, Judgement(1.0), 0, "user")


def difference(model: TextRewardModel, pair: Pair) -> dict[str, float]:
    group = Group(pair.case, (pair.a, pair.b), (pair.assistance_a, pair.assistance_b))
    return less(*parts_of(model, [group], NAMES)[0])


# --- piece by piece ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["frozen", "trained"])
def test_pieces_sum_to_the_difference_and_swapping_turns_them(how: str) -> None:
    model = reward(tiny(), how)
    whole, found = difference(model, PAIR), exchanged(model, ONE, NAMES)
    for name, value in whole.items():
        assert sum(one.parts.get(name, 0.0) for one in found) == pytest.approx(value, abs=1e-4)
    kinds = [(one.kind, one.by, PAIR.a.text[slice(*one.at_a)].strip(), PAIR.b.text[slice(*one.at_b)].strip())
             for one in found if one.kind in (WORDS, SAID)]  # fmt: skip
    assert kinds[:3] == [(WORDS, "", "w7", "w9"), (WORDS, "", "w12", ""), (WORDS, "", "", "w20")]
    assert [one[:2] for one in kinds[3:]] == [(SAID, NAMES[0]), (SAID, NAMES[1])]
    back = exchanged(model, Comparison(PAIR.swapped(), Judgement(0.0), 0, "user"), NAMES)
    assert [one.worth for one in back] == pytest.approx([-one.worth for one in found], abs=1e-4)


def test_where_only_findings_count_words_are_worth_nothing() -> None:
    model = reward(tiny(), "frozen")
    with torch.no_grad():
        model.weight[:, : model.backbone.d + 4] = 0.0
    found = {(one.kind, one.by): one for one in exchanged(model, ONE, NAMES) if one.kind == SAID}
    rest = [one.worth for one in exchanged(model, ONE, NAMES) if one.kind != SAID]
    assert rest == pytest.approx([0.0] * len(rest), abs=1e-6)
    part = finding_part(NAMES[0])
    assert found[SAID, NAMES[0]].worth == pytest.approx(difference(model, PAIR)[part]) and found[SAID, NAMES[0]].worth


def test_stretches_are_the_texts() -> None:
    a, b = "  one two three four five ", "one 2 three 4 five six"
    for most in (1, 2, 12):
        found = stretches(a, b, most)
        assert "".join(one.a for one in found) == a and "".join(one.b for one in found) == b
        assert sum(not one.same for one in found) <= most
    assert all(one.same for one in stretches(a, a))


# --- over all pairs ----------------------------------------------------------------------------------


def test_shares_sum_to_one_and_hang_on_no_names() -> None:
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(60, 3, generator=g).tolist()
    pairs = [(f"case {i // 3}", {"a": 2 * x, "b": y, "c": -0.5 * x + 0.1 * z}) for i, (x, y, z) in enumerate(draws)]
    found = shares(pairs)
    assert sum(one.mean for one in found.values()) == pytest.approx(1.0)
    assert found["c"].mean < 0 < found["b"].mean < found["a"].mean and (found["a"].n, found["a"].cases) == (60, 20)
    turned = [(c, {k: -v for k, v in parts.items()} if i % 2 else parts) for i, (c, parts) in enumerate(pairs)]
    assert shares(turned) == found
    assert sentence(found).startswith(f"{100 * found['a'].mean:.0f} % [") and sentence(found).endswith(" c")
    assert shares([("case", {"a": 0.0})]) == {}


# --- a word ------------------------------------------------------------------------------------------

CASES = [Case(f"w{i} w{i + 1}") for i in range(3, 11)]


def free(case: Case, outcome: Outcome) -> list[Fact]:
    """A form that allows any words, but not w15."""
    if "w15" in outcome.text.split():
        raise Malformed("w15")
    return [Fact("fine", "form", Sealed(True))]


def likes_w7(reward: object, groups: Sequence[Group], names: object) -> list[list[dict[str, float]]]:
    """A reward model that likes a word, the more words the better, and knows noise."""

    def score(outcome: Outcome) -> float:
        words = outcome.text.split()
        return words.count("w7") + 0.1 * len(words) + 0.01 * (sum(map(ord, outcome.text)) % 7)

    return [[{READING: score(outcome), SURPRISED: 0.0} for outcome in group.outcomes] for group in groups]


def test_a_word_that_is_liked_is_found_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_probe, "parts_of", likes_w7)
    task, model = toy.task(facts=free), reward(tiny(), "frozen")
    seen = [(case, Outcome(f"w{i + 16} w{i + 18} w20"), ()) for i, case in enumerate(CASES)]
    liked, other, barred = word_probe.probe(model, task, seen, ["w7", "w31", "w15"])
    assert liked.verdict == "the word is liked" and liked.beyond is not None and abs(liked.beyond.mean - 1.0) < 0.05
    assert liked.written is not None and (liked.written.n, liked.written.cases) == (8, 8)
    assert liked.written.mean > 1.05 and liked.controls is not None and 0.05 < liked.controls.mean < 0.15
    assert other.written is not None and other.written.low > 0.05, "it makes the text longer"
    assert other.beyond is not None and abs(other.beyond.mean) < 0.05, "as any word does"
    assert barred.written is None and barred.removed is None and "in none of 8 outcomes" in str(barred)
    with_word = [(case, Outcome(f"w7 {outcome.text}"), said) for case, outcome, said in seen]
    (taken,) = word_probe.probe(model, task, with_word, ["w7"])
    assert taken.removed is not None and -1.15 < taken.removed.low <= taken.removed.high < -1.05


def test_only_the_one_place_that_a_papers_form_has_is_edited() -> None:
    """The probe is not told where a confident word may stand."""
    case = Briefs(0, "train").draw(1, "k")[0]
    text = _paper(case)
    task = Task("paper", instruction="Which?", facts=facts, cases=Pool((case,)))
    keeps = _Form(None, task, case, Outcome(text))  # type: ignore[arg-type]  # it has no form of the case's
    fits = [_with(Outcome(text), at, "clearly").text for at in _places(text)]
    kept_ones = [one for one in fits if keeps(Outcome(one))]
    assert len(kept_ones) == 1 and " clearly helps and helps it ." in kept_ones[0]
    assert not any(keeps(_with(Outcome(kept_ones[0]), at, "surely")) for at in _places(kept_ones[0]))


def _paper(case: Case) -> str:
    from rrm.worlds.papers.brief import Brief
    from rrm.worlds.papers.paper import Paper, Sentence, write

    brief = Brief.of(case)
    proof = tuple((0,) * len(step) for step in brief.proof.steps)
    data = tuple((0,) * len(series.steps[0]) for series in brief.data)
    return write(brief, Paper("owl", Sentence("dog", "star", ("helps", "helps")), proof, data))


# --- a run -------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, TextRewardModel]:
    made = [synthetic.comparison(i, a=f"w{i + 4} w7", b=f"w9 w{i + 4}", case=f"w{i + 3}") for i in range(4)]
    folder, model = synthetic.make(tmp_path / "run", made), reward(tiny(), "frozen")
    journal = Journal(folder)
    journal.save_weights("paper", 5, "reward", {"w": torch.ones(1)})
    journal.save_weights("paper", 5, "agent", {"w": torch.ones(1)})
    journal.close()
    monkeypatch.setattr(explaining, "reward_of", lambda run, node: model)
    return folder, model


def test_what_is_kept_is_shown_while_the_weights_are_these(run: tuple[Path, TextRewardModel]) -> None:
    folder, _ = run
    explain(folder, "paper", limit=0, chosen=1)
    with Reader(folder) as reader:
        assert not kept(folder, reader, "paper")[0], "what is picked out says nothing of the rest"
    found = explain(folder, "paper", limit=2)
    assert [bool(one.pieces) for one in found.moved] == [False, False, True, True]
    assert sum(one.mean for one in found.shares.values()) == pytest.approx(1.0) and found.missed is not None
    with Reader(folder) as reader:
        first = attributed(reader, "paper", found.moved[0].pair)
        assert first is not None and first.difference == pytest.approx(found.moved[0].difference, abs=1e-3)
        assert {bar.name for bar in first.bars} >= {READING, "findings of paper/proofs"} and first.pieces
        chapters, _ = kept(folder, reader, "paper")
        (body,) = chapters["interpretability"].found
        assert body["found"]["pairs"] == 4 and body["found"]["shares"][READING]["n"] == 4
        assert attributed(reader, "paper", "0" * 16) is None
        assert any("step1" in piece.facts for piece in first.pieces), "the task says where its facts are"
    lines = file_of(folder, "paper").read_text()
    file_of(folder, "paper").write_text(lines[: len(lines) // 2])
    with Reader(folder) as reader:  # half a file shows what it has, and breaks nothing
        assert [attributed(reader, "paper", one.pair) is None for one in found.moved].count(True) >= 1
    file_of(folder, "paper").write_text(lines)
    journal = Journal(folder)
    journal.save_weights("paper", 6, "reward", {"w": torch.zeros(1)})
    journal.close()
    with Reader(folder) as reader:
        assert attributed(reader, "paper", found.moved[0].pair) is None, "of older weights"


def test_words_are_kept_for_the_certificate(run: tuple[Path, TextRewardModel]) -> None:
    folder, _ = run
    task = toy.task("paper", facts=free)
    (found,) = probe_words(folder, "paper", ["w7"], task)
    assert found.outcomes == 8 and found.written is not None
    with Reader(folder) as reader:
        chapters, _ = kept(folder, reader, "paper")
    (body,) = chapters["interpretability"].found
    assert body["name"] == "words" and body["found"]["words"][0] == json.loads(json.dumps(found.plain()))


def test_the_command_says_it_in_a_sentence(run: tuple[Path, TextRewardModel], tmp_path: Path) -> None:
    folder, _ = run

    def asked(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["explain", str(folder), *map(str, arguments)], env={"COLUMNS": "200"})
        return done.exit_code, done.output

    code, text = asked("--limit", 2)
    assert code == 0 and "paper: this reward model is " in text and "(n 4 pairs of 4 cases)" in text
    assert "% what it reads" in text or "] what it reads" in text
    code, text = asked("--comparison", 2)
    assert code == 0 and "comparison 2 of paper: the user says A" in text and "'w5 w7' in A, 'w9 w5' in B" in text
    assert asked("--word", "w7")[1].count("give --tree") == 1 and asked("--word", "w7")[0] == 2
    assert asked("--comparison", 99)[0] == 2 and asked("nobody")[0] == 2
    tree = tmp_path / "tree.py"
    tree.write_text("from tests import toy\ntask = toy.task('paper')\n")
    code, text = asked("--limit", 0, "--tree", tree, "--word", "w8 w8")
    assert code == 0 and "'w8 w8': written into an outcome it moves the score by" in text
