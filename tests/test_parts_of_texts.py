"""Parts of texts and whole ones: judged at the same node, by the facts that lie in them, and learned by one reward
model (`Task.divide` and the setting `parts`)."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import rrm
from rrm import BoundedUser, Case, Fact, Malformed, Outcome, Sealed
from rrm.core.judgements import DERIVED, Comparison, FitReport, Judgement, Pair
from rrm.core.parts import (
    asked_alone,
    concerning,
    cut_from,
    instruction_for,
    is_part,
    named_part,
    part_case,
    whole_case,
)
from rrm.core.records import Answer, Assistance, Finding, Group, Spans
from rrm.core.task import Assistant, assist
from rrm.core.validation import check, faults, plant
from rrm.exchange.exporting import row_of
from rrm.exchange.imports.preferences import comparison_of
from rrm.labels.questions import Question
from rrm.labels.remarking import offered
from rrm.learning.fitting import fit_reward
from rrm.learning.text_maker import TextMaker
from rrm.loop.outcomes import divided
from rrm.measure.oracle import is_true, true_score
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel
from rrm.store.store import Store
from rrm.trust.gathering import Hashed, evidence_of, predicate_of
from rrm.users.pairwise import question
from rrm.view.inspect import show_comparison
from rrm.view.margins import parts_of, rows_of
from rrm.view.reading import Reader
from rrm.view.web.label import as_shown
from rrm.worlds.papers import Brief, write
from rrm.worlds.papers.corpus import Corpus
from rrm_tasks.paper import paper
from rrm_tasks.word_problems import case_of, word_problems
from tests import toy
from tests.bandits import Impatient, Interrupted
from tests.models.conftest import network, tokenizer
from tests.side_by_side import InThreads, content, trained

PAPER = plant(paper())
SOLVED = "He has 3 + 4 = 7 pens.\n\nThen 7 * 2 = 15.\u2028So 14 / 2 = 7.\nA: 7"


def written(seed: int, n: int = 4) -> Group:
    """Papers of one brief, as hurried people write them."""
    rng = random.Random(seed)
    assert PAPER.cases is not None
    (case,) = PAPER.cases.draw(1, str(seed))
    corpus = Corpus(rng)
    return Group(case, tuple(Outcome(write(Brief.of(case), corpus.paper(Brief.of(case)))) for _ in range(n)))


def told(task: rrm.Task, case: Case, outcome: Outcome) -> dict[str, bool]:
    return {fact.name: is_true(fact) for fact in task.facts_of(case, outcome)}


# --- what a part is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_sections_of_a_paper_share_its_facts_out(seed: int) -> None:
    group = written(seed)
    for outcome in group.outcomes:
        facts, found = told(PAPER, group.case, outcome), dict[str, bool]()
        parts = PAPER.divided(group.case, outcome)
        for name, part in parts.items():
            case = part_case(group.case, name)
            own = told(PAPER, case, part)
            assert own.items() <= facts.items() and not own.keys() & found.keys()
            found |= own
            places = PAPER.located(case, part)
            assert own.keys() <= places.keys() and part.text in outcome.text
            assert all(part.text[slice(*place)] == outcome.text[slice(*PAPER.located(group.case, outcome)[fact])]
                       for fact, place in places.items())  # fmt: skip
            cut = cut_from(case, part)
            assert cut is not None and cut.case == group.case and cut.outcome.text == outcome.text
        assert found == facts and "abstract" in parts
        assert " ".join(part.text for part in parts.values()) == outcome.text


def test_a_title_may_be_any_word_and_what_does_not_parse_has_no_parts() -> None:
    group = written(0, 1)
    text = group.outcomes[0].text.split()
    odd = Outcome(" ".join([text[0], "proof", *text[2:]]))
    assert PAPER.divided(group.case, odd)["abstract"].text.startswith("title proof .")
    assert PAPER.divided(group.case, Outcome("no paper")) == {}


def test_the_first_steps_of_a_solution_are_parts_of_it() -> None:
    task = plant(word_problems())
    case = case_of("How many pens?", "3 + 4 = 7\n#### 7")
    parts = task.divided(case, Outcome(SOLVED))
    assert {name: part.text for name, part in parts.items()} == {
        "step 1": SOLVED[:22], "steps 1 to 2": SOLVED.partition("\u2028")[0]
    }  # fmt: skip
    part = parts["steps 1 to 2"]
    found = told(task, part_case(case, "steps 1 to 2"), part)
    assert found == {name: holds for name, holds in told(task, case, Outcome(SOLVED)).items() if name[-1] in "12"}
    assert found["calc1"] and not found["calc2"]


@pytest.mark.parametrize("cut", [1, {}, {"whole": 3}, {"whole": {"text": "abc"}, "begin": 0, "end": 2, "facts": []},
                                 {"whole": {"text": "abc"}, "begin": 0, "end": "3", "facts": []}])  # fmt: skip
def test_what_somebody_made_up_is_no_part(cut: Any) -> None:
    case = part_case(Case("x"), "all")
    assert cut_from(case, Outcome("abc", data={"cut_from": cut})) is None
    whole = {"whole": {"text": "abc"}, "begin": 0, "end": 3, "facts": []}
    assert cut_from(case, Outcome("abc", data={"cut_from": whole})) is not None


def test_parts_of_one_name_are_beside_one_another_and_every_name_comes_up() -> None:
    groups = [written(seed) for seed in range(30)]
    found = divided(PAPER, groups, "key")
    assert found == divided(PAPER, groups, "key") != divided(PAPER, groups, "other")
    assert {named_part(group.case) for group in found} == {"abstract", "proof", "experiment"}
    for group in found:
        first = {"abstract": "title"}.get(named_part(group.case), named_part(group.case))
        assert {outcome.text.split()[0] for outcome in group.outcomes} == {first}
        assert is_part(group.case) and not is_part(groups[0].case)
    assert {whole_case(group.case) for group in found} <= {group.case.id for group in groups}


def test_the_same_part_of_two_papers_is_nothing_to_compare() -> None:
    group = written(3, 1)
    one = group.outcomes[0]
    other = Outcome(one.text.replace("title", "title", 1).replace(one.text.split()[1], "yak", 1))
    proofs = [PAPER.divided(group.case, outcome)["proof"] for outcome in (one, other)]
    assert proofs[0].content == proofs[1].content and proofs[0].id != proofs[1].id
    groups = [Group(group.case, (one, other))]
    assert {named_part(found.case) for found in divided(PAPER, groups, "k")} == {"abstract"}


def test_a_user_sees_more_of_a_part_for_the_same_attention() -> None:
    """Of what they judge, the share that they paid for."""
    whole, parts = [], []
    user = BoundedUser(attention=8, error=0.0)
    for seed in range(15):
        group = written(seed, 2)
        for some, shares in [([group], whole), (divided(PAPER, [group], "k"), parts)]:
            for one in some:
                prices = sum(f.price for o in one.outcomes for f in PAPER.facts_of(one.case, o))
                shares.append(user.judge(PAPER, Pair.of("paper", one, 0, 1)).attention / prices)
    assert sum(parts) / len(parts) > 1.5 * sum(whole) / len(whole)


# --- what assistants say of it -----------------------------------------------------------------------


def test_of_what_was_said_of_the_whole_a_part_gets_what_concerns_it() -> None:
    deep = Assistance("p/proofs/steps", "1", (Answer(Case("s"), Outcome("s"), (Finding("step1", False, 0),), None),))
    both = Answer(Case("q"), Outcome("a"), (Finding("step1", False), Finding("verb0", True)), None, (deep,))
    own = Answer(Case("r"), Outcome("b"), (Finding("verb0", False),), None, (deep,))
    unread = Answer(Case("u"), Outcome("?"), (), None, (), "no form")
    found = concerning(Assistance("p/proofs", "1", (both, own, unread)), {"verb0"})
    assert [answer.findings for answer in found.answers] == [(Finding("verb0", True),), own.findings, ()]
    assert found.answers[0].below[0].na  # the step is no part of it
    assert found.answers[1] is own and found.answers[2] is unread
    assert concerning(Assistance("p", "1", (both,)), {"step1"}).text == "p wrong step1 ( steps wrong step1 )"


class Critic:
    """Answers whatever it is asked, and counts that."""

    version, repeatable, asked = "1", True, 0

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        self.asked += len(cases)
        return [Group(case, (Outcome("right"),) * n) for case in cases]


def test_an_assistant_is_asked_about_the_whole_once_and_nothing_of_its_parts() -> None:
    def findings(case: Case, outcome: Outcome) -> list[Finding]:
        return [Finding(name, False) for name in ("verb0", "step0")]

    def frame(case: Case, outcome: Outcome) -> list[Case]:
        return [Case(outcome.text)]

    agent = Critic()
    one = Assistant(plant(toy.sub("critic", frame=frame, findings=findings), "paper"), agent, None)
    group = written(1)
    parts = divided(PAPER, [group], "k")
    wholes, about = one.examine([group]), one.examine(parts)
    assert agent.asked == len({outcome.text for outcome in group.outcomes})
    assert all(len(said.findings) == 2 for said in wholes[0])
    known = {"abstract": "verb0", "proof": "step0"}.get(named_part(parts[0].case))
    assert all([f.fact for f in said.findings] == ([known] if known else []) for said in about[0])


# --- what a reward model learns of it ----------------------------------------------------------------


def compared(task: rrm.Task, group: Group, purpose: str = "") -> Comparison:
    """The first two of a group, by the truth."""
    pair = Pair.of(task.path, group, 0, 1)
    a, b = (true_score(task, group.case, one) for one in (pair.a, pair.b))
    return Comparison(pair, Judgement(0.5 if a == b else float(a > b)), 0, "oracle", purpose=purpose)


class Knows:
    """Says of each word whether its last letter is even; every fifth time it does not."""

    version, repeatable = "1", True

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        return [Group(case, (Outcome(self._said(case.prompt)),) * n) for case in cases]

    def _said(self, words: str) -> str:
        truth = [ord(word[-1]) % 2 == 0 for word in words.split()]
        return " ".join(str(int(holds != (ord(words[i]) % 5 == 0))) for i, holds in enumerate(truth))


def helped(groups: Sequence[Group]) -> list[Group]:
    """Groups, and what is said of them."""

    def findings(case: Case, outcome: Outcome) -> list[Finding]:
        return [Finding(f"word{i}", said == "1") for i, said in enumerate(outcome.text.split())]

    def frame(case: Case, outcome: Outcome) -> list[Case]:
        return [Case(outcome.text)]

    return assist([Assistant(plant(toy.sub("knows", frame=frame, findings=findings), "toy"), Knows(), None)], groups)


def some(seed: int, cases: int) -> list[Group]:
    """Two texts of five words a case."""
    rng = random.Random(seed)
    return [
        Group(Case(f"w{rng.randrange(10)} w{n % 10}", {"n": n}),
              tuple(Outcome(" ".join(f"w{rng.randrange(10)}" for _ in range(5))) for _ in range(2)))
        for n in range(cases)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> tuple[TextRewardModel, FitReport, list[Comparison]]:
    """On comparisons of parts and of wholes."""
    task, groups = plant(tree()), some(0, 60)
    rows = [compared(task, group) for group in helped([*groups, *divided(task, groups, "k")])]
    rows.append(replace(rows[-1], purpose=DERIVED))
    settings = rrm.Settings(heads=2, reward_trunk="frozen", holdout=0.25)
    backbone = maker().backbone
    reward = TextRewardModel(backbone, backbone.frozen("both"), settings, 1)
    return reward, fit_reward(reward, rows, settings, "k"), rows


def test_of_parts_and_wholes_together_it_learns_to_order_wholes(
    fitted: tuple[TextRewardModel, FitReport, list[Comparison]],
) -> None:
    task, right = plant(tree()), []
    for group in helped(some(1, 40)):
        (scores,) = fitted[0].score([group])
        a, b = (true_score(task, group.case, one) for one in group.outcomes)
        right += [float((scores.mean[0] > scores.mean[1]) == (a > b))] if a != b else []
    assert len(right) > 20 and sum(right) / len(right) > 0.8


def test_it_is_measured_on_wholes_and_on_parts_apart(
    fitted: tuple[TextRewardModel, FitReport, list[Comparison]],
) -> None:
    reward, report, rows = fitted
    held = {margin.comparison: margin.mean for margin in report.margins if margin.heldout}
    for parts, right, decided in [
        (False, report.holdout_right, report.holdout_decided), (True, report.parts_right, report.parts_decided)
    ]:  # fmt: skip
        those = [c for c in rows if is_part(c.case) == parts and c.id in held and c.preference not in (None, 0.5)]
        assert decided == len(those) > 0
        assert right == sum((held[c.id] > 0) == (c.preference == 1.0) for c in those)
    sides = {(whole_case(c.case), c.id in held) for c in rows}
    assert len(sides) == len({case for case, _ in sides})  # parts are held out with their wholes
    assert report.parts == sum(is_part(c.case) and c.id not in held for c in rows[:-1])
    wholes = [
        Group(c.case, (c.a, c.b), (c.assistance_a, c.assistance_b))
        for c in rows if not is_part(c.case) and c.id not in held
    ]  # fmt: skip
    mean = torch.cat([scores.mean for scores in reward.score(wholes)])
    assert abs(float(mean.mean())) < 1e-3 and float(mean.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_a_fit_without_parts_reports_as_it_did() -> None:
    assert not [name for name in FitReport(3, parts=0, parts_right=0, parts_decided=0).metrics() if "parts" in name]
    assert FitReport(3, parts=2, parts_right=0, parts_decided=0).metrics()["parts_right"] == 0


# --- a run -------------------------------------------------------------------------------------------


def worded(case: Case, outcome: Outcome) -> list[Fact]:
    """A fact per word: whether its last letter is even."""
    if not outcome.text.split():
        raise Malformed("no word")
    return [Fact(f"word{i}", "form", Sealed(ord(w[-1]) % 2 == 0)) for i, w in enumerate(outcome.text.split())]


def words_at(case: Case, outcome: Outcome) -> Spans:
    found, at = {}, 0
    for i, word in enumerate(outcome.text.split()):
        at = outcome.text.index(word, at)
        found[f"word{i}"] = (at, at + len(word))
        at += len(word)
    return found


def halves(case: Case, outcome: Outcome) -> Spans:
    places = [*words_at(case, outcome).values()]
    middle = (len(places) + 1) // 2
    ends = {"head": places[:middle], "tail": places[middle:]}
    return {name: (some[0][0], some[-1][1]) for name, some in ends.items() if some}


FEW: dict[str, Any] = {"rounds": 2, "comparisons": 6, "cases": 4, "outcomes": 3, "accept": 2, "steps": 1, "holdout": 0}


def tree(**changes: Any) -> rrm.Task:
    settings = toy.SMALL.model_copy(update={**FEW, "parts": 0.5, **changes})
    subs = [toy.sub("left", settings=settings, facts=worded, locate=words_at, divide=halves)]
    return toy.task(settings=settings, facts=worded, locate=words_at, divide=halves, assistants=subs)


def maker() -> TextMaker:
    return TextMaker(Backbone("tiny", network(), tokenizer(), "full", verified=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, trained(None, tree(), BoundedUser(attention=8), maker(), out).version


def judged(out: Path, task: str = "toy") -> list[Comparison]:
    store = Store(out / "run.db")
    try:
        return list(store.comparisons(task))
    finally:
        store.close()


def test_both_kinds_are_asked_in_the_shares_that_were_set_at_every_node(run: tuple[Path, str]) -> None:
    for node in ("toy", "toy/left"):
        for round in range(2):
            some = [c for c in judged(run[0], node) if c.round == round and not c.purpose]
            assert (sum(is_part(c.case) for c in some), len(some)) == (3, 6)
    parts = [c for c in judged(run[0]) if is_part(c.case)]
    assert {named_part(c.case) for c in parts} <= {"head", "tail"}
    assert all(not is_part(c.case) for c in judged(run[0]) if c.purpose)  # whether an improvement stands


def test_a_run_with_parts_of_texts_resumes_to_the_bit(run: tuple[Path, str], tmp_path: Path) -> None:
    for patience in (9, 14):
        with pytest.raises(Interrupted):
            rrm.train(tree(), Impatient(attention=8, patience=patience), maker(), tmp_path / "run")
    assert rrm.train(tree(), Impatient(attention=8), maker(), tmp_path / "run").version == run[1]
    assert content(tmp_path / "run") == content(run[0])


def test_side_by_side_it_is_the_same(run: tuple[Path, str], tmp_path: Path) -> None:
    user = BoundedUser(attention=8)
    assert trained(InThreads(maker, user.name), tree(), user, maker(), tmp_path / "run").version == run[1]
    assert content(tmp_path / "run") == content(run[0])


def test_that_a_task_can_be_divided_changes_nothing_where_no_parts_are_asked_for(tmp_path: Path) -> None:
    for name, divide in (("one", halves), ("two", None)):
        task = replace(tree(parts=0.0, rounds=1), divide=divide, assistants=())
        rrm.train(task, BoundedUser(), maker(), tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_parts_are_refused_where_their_facts_are_nowhere() -> None:
    bare = toy.task(divide=halves)
    assert [str(fault) for fault in faults(plant(bare)) if "divide without locate" in str(fault)]
    with pytest.raises(rrm.TaskError, match="give locate"):
        check(bare)
    with pytest.raises(rrm.TaskError, match="divide is 3"):
        check(toy.task(divide=3))
    outside = plant(toy.task(locate=words_at, divide=lambda case, outcome: {"all": (0, 99)}))
    with pytest.raises(rrm.RRMError, match="'all' is from 0 to 99 of a text of 5"):
        outside.divided(Case("x"), Outcome("w3 w4"))


# --- who sees it -------------------------------------------------------------------------------------


def part_of(seed: int = 5) -> Comparison:
    (group,) = divided(PAPER, [written(seed)], "k")
    return compared(PAPER, group)


def test_whoever_judges_is_told_that_it_is_a_part() -> None:
    one = part_of()
    name = named_part(one.case)
    assert instruction_for("Which?", one.case) == f"Which? Only a part of each is shown and judged: {name}."
    assert instruction_for("Which?", written(0).case) == "Which?"
    template = "{instruction}{case}{one}{two}{said_one}{said_two}"
    assert f"shown and judged: {name}." in question(template, PAPER, one.pair)
    asked = Question("q", "paper", 0, PAPER.instruction, one.pair, ({}, {}), 1, 0.0)
    page = as_shown(asked, "ann")
    assert page["instruction"].endswith(f"judged: {name}.")
    texts = {"".join(piece["text"] for piece in side["pieces"]) for side in page["sides"]}
    assert texts == {one.a.text, one.b.text}  # and nothing of what they were cut from


def test_of_a_part_alone_nobody_is_asked_for_a_level() -> None:
    asked, one = {"rating": 5, "unacceptable": 0, "note": 0}, part_of()
    assert offered(asked, one.a) == asked_alone(asked, one.case) == {"note": 0}  # type: ignore[arg-type]
    assert offered(asked, cut_from(one.case, one.a).outcome) == asked  # type: ignore[arg-type, union-attr]
    task = replace(PAPER, settings=PAPER.settings.model_copy(update={"ask": "rating,note"}))
    judgement = BoundedUser(attention=40).judge(task, one.pair)
    assert {said.kind for said in (*judgement.remarks_a, *judgement.remarks_b)} == {"note"}


def test_the_pages_of_a_run_show_what_a_part_is_part_of_and_figures_leave_it_out(run: tuple[Path, str]) -> None:
    from rrm.view import comparisons as shown
    from rrm.view.lists import Query, find

    with Reader(run[0]) as reader:
        lines = find(reader, "toy", Query("parts")).lines
        assert len(lines) == 6
        one = shown.comparison(reader, lines[0].seq)
        assert one is not None and one.part in ("head", "tail") and "".join(one.a.around).strip()
        out = io.StringIO()
        show_comparison(one, Console(file=out, width=200))
        assert f"parts of outcomes: {one.part}" in out.getvalue()
        assert f"{one.a.around[0]}⟦{one.a.text}⟧" in out.getvalue()
        rows = {row.pair for row in rows_of(reader, "toy", parts_of(reader, "toy"))}
    found = {c.id: is_part(c.case) for c in judged(run[0])}
    assert rows == {id for id, part in found.items() if not part}


def test_a_certificate_speaks_of_whole_outcomes_and_says_so(run: tuple[Path, str]) -> None:
    with Reader(run[0]) as reader:
        hashed = Hashed(evidence_of(run[0]), {}, {})
        found = predicate_of(reader, run[0], hashed, "toy", "2026-01-01T00:00:00Z", {})
    wholes = [c for c in judged(run[0]) if not is_part(c.case)]
    assert found.testing.judged == len(wholes) and found.scope.cases == len({c.case.id for c in wholes})
    assert any(one.startswith("Anything of parts of outcomes: 6 comparisons") for one in found.not_shown)


def test_a_part_goes_out_and_comes_back() -> None:
    one = part_of()
    row = row_of(one)
    assert row["part"] == named_part(one.case) and row_of(compared(PAPER, written(5)))["part"] is None
    back = comparison_of(row, "paper", "a file")
    assert back.case.id == one.case.id and {back.a.id, back.b.id} == {one.a.id, one.b.id}
    assert told(PAPER, back.case, back.a) and cut_from(back.case, back.a) is not None
