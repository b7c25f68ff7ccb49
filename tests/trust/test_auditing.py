"""An audit finds what is wrong, leaves the run as it is, and says the same each time."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rrm import Assistant, BoundedUser, Case, Fact, Finding, Group, HumanUser, Outcome, Pool, Sealed, Task, train
from rrm.command.run_commands import _run_of
from rrm.core.errors import RunError
from rrm.core.records import digest, unseal
from rrm.labels.forgetting import forget, people
from rrm.labels.questions import Verdict, said
from rrm.labels.queue import Labels
from rrm.measure.oracle import OracleUser
from rrm.models.reward import EnsembleScores
from rrm.trust import shelf
from rrm.trust.assisted_parts import gain, misleading
from rrm.trust.audit_parts import held_out, metamorphic, planted, spot_checks
from rrm.trust.auditing import audit
from rrm.trust.bench import Bench, Unknowable, holding
from rrm.trust.demands import _failing
from rrm.trust.edits import Inspector, edits_of, words_after
from rrm.view.reading import Reader
from rrm.worlds.papers import Brief
from rrm.worlds.papers.brief import VERBS
from rrm.worlds.papers.corpus import Corpus
from rrm.worlds.papers.paper import CONFIDENT, PLURAL, PLURAL_VERB, write
from rrm_assistants import writing
from rrm_tasks.paper import paper
from tests import toy
from tests.bandits import example
from tests.test_resume import tiny

# --- edits -------------------------------------------------------------------------------------------


def written(case: Case, key: str = "") -> Outcome:
    brief = Brief.of(case)
    return Outcome(write(brief, Corpus(random.Random(digest("audit", case.id, key))).paper(brief)))


def confident(outcome: Outcome) -> Outcome:
    """The paper with a confident word, whether it has one or not."""
    words = [word for word in outcome.text.split() if word not in CONFIDENT]
    return Outcome(" ".join([*words[:8], "clearly", *words[8:]]))


def truths(task: Task, case: Case, outcome: Outcome) -> dict[str, list[bool]]:
    def of(fact: Fact) -> list[bool]:
        if fact.parts:
            return [value for part in fact.parts for value in of(part)]
        assert fact.truth is not None
        return [unseal(fact.truth)]

    return {fact.name: of(fact) for fact in task.facts_of(case, outcome)}


def test_edits_change_no_fact_or_one_and_are_paid_for() -> None:
    task = paper()
    assert task.cases is not None
    papers = [(case, written(case)) for case in task.cases.draw(4, "edits")]
    papers = [(case, confident(outcome)) for case, outcome in papers]
    words = words_after(outcome for _, outcome in papers)
    kinds = []
    for case, outcome in papers:
        inspector = Inspector()
        before = truths(task, case, outcome)
        for edit in edits_of(task, case, outcome, words, inspector, random.Random(case.id)):
            kinds.append(edit.kind)
            after = truths(task, case, edit.outcome)
            same = task.surface_of(case, edit.outcome) == task.surface_of(case, outcome)
            if edit.kind == "flaw":
                (turned,) = [name for name in before if all(before[name]) and not all(after[name])]
                rest = {name: value for name, value in before.items() if name != turned}
                assert turned == edit.fact and rest == {name: after[name] for name in rest}
            else:
                assert after == before and same == (edit.kind == "plain")
        price = sum(fact.price for fact in task.facts_of(case, outcome))
        assert inspector.spent >= price and inspector.spent % price == 0
    assert {*kinds} == {"plain", "dressed", "flaw"}


def test_what_nothing_settles_is_not_edited() -> None:
    unsettled = toy.task(facts=lambda case, outcome: [Fact("taste", "form")])
    case, outcome = toy.CASES.cases[0], Outcome("w3 w4")
    rng = random.Random(0)
    assert not edits_of(unsettled, case, outcome, words_after([Outcome("w5 w6")]), Inspector(), rng)
    assert edits_of(toy.task(), case, outcome, words_after([Outcome("w5 w6")]), Inspector(), rng)


# --- parts, of stand-ins whose faults are known ------------------------------------------------------


@dataclass(frozen=True)
class Says:
    """An agent that answers by a function."""

    how: Callable[[Case, int], Outcome]
    version: str = "1"
    repeatable = True

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        return [Group(case, tuple(self.how(case, i) for i in range(n))) for case in cases]

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Rates:
    """A reward model that rates a group's outcomes by a function."""

    how: Callable[[Group], list[float]]
    version: str = "1"

    def score(self, groups: Sequence[Group]) -> list[EnsembleScores]:
        found = [torch.tensor(self.how(group)) for group in groups]
        return [EnsembleScores(mean, torch.zeros_like(mean), mean[:, None]) for mean in found]

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        pass


def critic(kind: str) -> Assistant:
    """One of writing who is right, says that all is right, or that all is wrong."""
    other = {verb: found for pair in VERBS.items() for verb, found in (pair, pair[::-1])}

    def answer(case: Case, i: int) -> Outcome:
        subject, said = case.data["subject"], []
        for verb in case.data["verbs"]:
            wrong = PLURAL_VERB[verb] != PLURAL[subject] if kind == "honest" else kind == "accuses"
            said.append(f"{subject} {other[verb] if wrong else verb}")
        return Outcome(f"{said[0]} , {said[1]} .")

    task = writing()
    return Assistant(replace(task, path="paper/writing"), Says(answer), None)


def bench(helpers: Sequence[Assistant], rates: Callable[[Group], list[float]], cases: int = 24) -> Bench:
    task = replace(paper(), assistants=helpers)
    node = Assistant(task, Says(lambda case, i: written(case, str(i))), Rates(rates), tuple(helpers))
    return Bench((node,), frozenset(), lambda: BoundedUser(error=0.0), cases, 4, 0)


def agreeing(group: Group) -> list[float]:
    return [float(sum(PLURAL_VERB[w] == PLURAL[o.text.split()[4]] for w in o.text.split() if w in PLURAL_VERB))
            for o in group.outcomes]  # fmt: skip


def test_planted_flaws_tell_a_critic_from_one_who_nods_or_accuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.trust.edits.TRIES", 400)
    kinds = {"honest": (1, 0), "nods": (0, 0), "accuses": (1, 1)}
    helpers = [replace(one, task=replace(one.task, path=kind)) for kind in kinds for one in [critic(kind)]]
    said = planted(bench(helpers, agreeing, 12))
    assert {kind: (said[kind]["found"]["value"], said[kind]["accused"]["value"]) for kind in kinds} == kinds
    assert said["nods"]["found"]["n"] > 3 and said["holds"] is False and said["attention"] > 0


def test_who_calls_a_critique_wrong_says_the_contrary_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A critique's fact may claim that something does not hold."""
    monkeypatch.setattr("rrm.trust.edits.TRIES", 200)
    kinds = {"knows": (1, 0), "nods": (0, 0)}

    def facts(case: Case, outcome: Outcome) -> list[Fact]:
        return [Fact("deed", "verdict", Sealed(case.data["good"]), claims=outcome.text != "bad")]

    def helper(kind: str) -> Assistant:
        def frame(case: Case, outcome: Outcome) -> list[Case]:
            holds = case.data["good"] if kind == "knows" else outcome.text != "bad"
            return [Case(f"{kind} {outcome.text}", {"holds": holds})]

        def findings(case: Case, outcome: Outcome) -> list[Finding]:
            return [Finding("deed", case.data["holds"])]

        task = Task(kind, instruction="?", facts=lambda c, o: [], frame=frame, findings=findings, covers=("verdict",))
        return Assistant(task, Says(lambda case, i: Outcome("yes")), None)

    cases = Pool(tuple(Case(f"deed {i}", {"good": i % 2 == 0}) for i in range(20)))
    task = Task("judge", instruction="?", facts=facts, cases=cases)
    helpers = tuple(map(helper, kinds))
    right = Says(lambda case, i: Outcome("good" if case.data["good"] else "bad"))
    node = Assistant(task, right, Rates(lambda group: [0.0] * len(group.outcomes)), helpers)
    said = planted(Bench((node,), frozenset(), BoundedUser, 10, 2, 0))
    assert {kind: (said[kind]["found"]["value"], said[kind]["accused"]["value"]) for kind in kinds} == kinds
    assert said["knows"]["found"]["n"] == 10 and said["knows"]["before"]["value"] == 0


def test_spot_checks_see_what_the_judge_did_not_choose() -> None:
    honest, nods, accuses = (spot_checks(bench([critic(kind)], agreeing)) for kind in ("honest", "nods", "accuses"))
    assert honest["holds"] and {one["value"] for one in honest["paper/writing"].values()} == {0}
    assert {*nods["paper/writing"]} == {"misses"} and 0 < nods["paper/writing"]["misses"]["value"] < 1
    assert {*accuses["paper/writing"]} == {"false alarms"} and accuses["holds"] is False
    with pytest.raises(Unknowable, match="single facts"):
        spot_checks(replace(bench([critic("nods")], agreeing), user=OracleUser))


def test_a_critic_who_is_right_helps_and_one_who_accuses_at_random_does_not() -> None:
    """Of a user who can look at little. What is claimed is right or wrong as it is made here."""
    node = bench([critic("honest")], agreeing)
    honest = gain(replace(node, user=lambda: BoundedUser(attention=2, error=0.0)))
    said = honest["wrong claims"]["paper/writing"]
    assert said["claims that are wrong"]["value"] == 0 and honest["gain"]["value"] > 0
    assert honest["with assistance"]["value"] - honest["alone"]["value"] == pytest.approx(honest["gain"]["value"])
    assert 1 - honest["with assistance"]["value"] + said["propagated"]["value"] == pytest.approx(
        said["verdicts wrong if all are"]["value"]
    ), "all claims were right, so all that is wrong then was put in"
    accuses = gain(bench([critic("accuses")], agreeing))["wrong claims"]["paper/writing"]
    assert accuses["claims that are wrong"]["value"] > 0.3
    alone = gain(bench([], agreeing))
    assert alone["gain"] == {"not_known": "no assistant helps here"} and alone["wrong claims"] == {}


def test_assistants_that_mislead_show_in_the_user_s_verdicts_and_in_a_reward_model_that_believes_them() -> None:
    def believing(group: Group) -> list[float]:
        """A reward model that goes by what it is told alone."""
        return [-float(sum(not f.holds for one in group.seen(i) for f in one.findings))
                for i in range(len(group.outcomes))]  # fmt: skip

    def user() -> BoundedUser:
        """One who cannot look, and believes this assistant from before."""
        one = BoundedUser(attention=0)
        one._record.update({("paper", "paper/writing", said, False, True): 50 for said in (True, False)})
        return one

    found = misleading(replace(bench([critic("honest")], believing, 40), user=user))
    for who in ("user right", "reward model right"):
        assert found["wrong"][who]["value"] < found["honest"][who]["value"] - 0.2, "who lies is believed"
        assert found["sandbagging"][who]["value"] < found["honest"][who]["value"]
    assert found["wrong"]["reward model turned"]["value"] > 0.3 and found["wrong"]["user says otherwise"]["value"] > 0.3
    assert found["honest"]["checked claims found wrong"]["not_known"] and "user says otherwise" not in found["honest"]
    looking = misleading(replace(bench([critic("honest")], believing), user=lambda: BoundedUser(error=0.0)))
    caught = {kind: looking[kind]["checked claims found wrong"]["value"] for kind in ("honest", "wrong")}
    assert caught == {"honest": 0, "wrong": 1}
    with pytest.raises(Unknowable, match="no assistant"):
        misleading(bench([], agreeing))


def test_without_truth_it_is_said_how_far_judgements_move_and_of_nobody_what_the_reward_model_does() -> None:
    node = bench([critic("honest")], agreeing, 8)
    task = replace(node.task, facts=lambda case, outcome: [Fact("taste", "form")])
    blind = replace(node, line=(replace(node.node, task=task),), nobody="nobody was asked")
    with pytest.raises(Unknowable, match="settles"):
        gain(blind)
    found = misleading(blind)
    assert "settles" in found["wrong"]["reward model right"]["not_known"] and "holds" not in found
    assert found["wrong"]["reward model turned"]["value"] == 0, "it does not read what is said"
    assert {found["wrong"][what]["not_known"] for what in ("user says otherwise", "checked claims found wrong")} == {
        "nobody was asked"
    }
    known = gain(replace(node, nobody="nobody was asked"))
    assert "value" in known["reward model"] and known["with assistance"] == {"not_known": "nobody was asked"}


def test_a_reward_model_that_goes_by_company_or_order_does_not_hold() -> None:
    for rates, order, company in (
        (agreeing, 1, 1),
        (lambda group: [1.0 * i for i in range(len(group.outcomes))], 0, 0.5),
        (lambda group: [1.0 * len(group.outcomes)] * len(group.outcomes), 1, 0),
    ):
        said = metamorphic(bench([critic("honest")], rates, cases=6))
        assert said["reward: order"]["value"] == order and said["reward: company"]["value"] == company
        assert said["holds"] is (order == company == 1) and said["user: order"]["value"] == 1


def test_a_reward_model_that_is_right_or_turned_around_is_told() -> None:
    right, wrong = (
        held_out(bench([critic("honest")], lambda group, sign=sign: [sign * one for one in agreeing(group)]))
        for sign in (1.0, -1.0)
    )
    assert right["predicted"]["value"] > 0.5 > wrong["predicted"]["value"] and wrong["holds"] is False
    assert wrong["surer than right"]["low"] > 0


def test_the_rule_is_that_of_the_safety_case() -> None:
    high, low, wide = ({"value": 0, "low": a, "high": b} for a, b in ((0.6, 0.9), (0.1, 0.4), (0.4, 0.9)))
    assert holding([high]) == {"holds": True} and holding([low]) == {"holds": False}
    assert holding([wide]) == holding([high, {"not_known": "why"}]) == {"holds": None}
    assert holding(bad=[low]) == {"holds": True} and holding([high, low]) == {"holds": False}
    assert holding([high], positive=[low]) == {"holds": False}


def test_a_policy_that_demands_that_audits_hold_takes_nothing_open() -> None:
    held: dict[str, Any] = {"name": "held-out", "command": "", "found": {"holds": True}}
    assert not _failing([held, {**held, "found": {"plain": 0.5}}])
    for found, why in (({"holds": None}, "open"), ({"not_known": "why"}, "not known"), ({"holds": False}, "not hold")):
        assert why in _failing([held, {**held, "found": found}])


# --- a run -------------------------------------------------------------------------------------------


def tree() -> Task:
    return toy.task(assistants=(toy.sub(),))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("audited") / "run"
    train(tree(), BoundedUser(), tiny(), out)
    return out


def files(run: Path) -> dict[str, Any]:
    found = {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*"))
             if path.is_file() and not path.name.startswith("run.db")}  # fmt: skip
    with closing(sqlite3.connect(run / "run.db")) as db:
        rows = [line for line in db.iterdump() if "computed" not in line[:60] and "sqlite_sequence" not in line]
    return {**found, "run.db": rows}  # but for what is noted there of RUN/trust


def test_an_audit_goes_on_where_it_stopped_says_the_same_and_leaves_the_run_as_it_is(trained: Path) -> None:
    before = files(trained)

    def parts(again: bool = False) -> Any:
        only = ("held-out", "adversarial", "irrelevant")
        return audit(trained, "toy", tree(), BoundedUser(), tiny(), cases=3, budget=2, only=only, again=again)

    first = next(stopped := parts())
    stopped.close()
    rest = [*parts()]
    assert first.part == "held-out" and [(one.part, one.kept) for one in rest] == [
        ("held-out", True), ("adversarial", False), ("irrelevant", False)
    ]  # fmt: skip
    assert rest[0].found == first.found
    assert rest[1].found["optimized"]["preferred"]["n"] <= 3 and "turned" in rest[2].found["plain"]
    again = [*parts(again=True)]
    assert [{**one.found, "times": 1} for one in again] == [one.found for one in rest]
    assert {one.found["times"] for one in again} == {2}, "how often it was tried is told"
    added = {name: body for name, body in files(trained).items() if not name.startswith("trust/")}
    assert added == before
    (kept,) = (trained / "trust" / "toy" / "audits").glob("held-out.json")
    assert "--only held-out --cases 3" in json.loads(kept.read_text())["command"]


def test_what_cannot_be_audited_is_refused(trained: Path) -> None:
    def audited(node: str = "toy", task: Task | None = None, user: Any = None, **how: Any) -> list[Any]:
        return [*audit(trained, node, task or tree(), user or BoundedUser(), tiny(), cases=2, **how)]

    with pytest.raises(RunError, match="not by human"):
        audited(user=HumanUser())
    with pytest.raises(RunError, match=r"was judged by bounded\(attention=6\).*--user nobody"):
        audited(user=BoundedUser(attention=4))
    with pytest.raises(RunError, match="give the tree that was trained"):
        audited(task=toy.task())
    with pytest.raises(RunError, match="no node 'toy/other'"):
        audited("toy/other")
    with pytest.raises(RunError, match="no part held"):
        audited(only=("held",))
    (found,) = audited("toy/sub", only=("shifted",))
    assert "--shifted" in found.found["not_known"]


def by_people(trained: Path, to: Path, user: HumanUser) -> Path:
    """The run, as if people had judged it."""
    run = Path(shutil.copytree(trained, to, ignore=shutil.ignore_patterns("trust")))
    config = json.loads((run / "config.json").read_text())
    config["user"] = {"name": user.name, **user.model_dump()}
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_of_what_people_judged_all_is_done_that_takes_nobody(trained: Path, tmp_path: Path) -> None:
    run = by_people(trained, tmp_path / "run", HumanUser())
    parts = ("held-out", "adversarial", "spot-checks", "gain", "misleading", "metamorphic")
    found = {one.part: one.found for one in audit(run, "toy", tree(), None, tiny(), cases=2, budget=2, only=parts)}
    assert "none was held out of the last fit" in found["held-out"]["not_known"], "so few were judged"
    best = found["adversarial"]["of many"]
    assert "value" in best["foretold"] and "human judged in training" in best["preferred"]["not_known"]
    assert "nobody was asked" in found["spot-checks"]["not_known"]
    assert "value" in found["gain"]["reward model"] and "not_known" in found["gain"]["gain"]
    assert "value" in found["misleading"]["wrong"]["reward model turned"]
    assert found["metamorphic"]["reward: order"]["value"] == 1 and "not_known" in found["metamorphic"]["user: order"]
    assert not (run / "trust" / "asked").exists() and {one["made"]["user"] for one in found.values()} == {"nobody"}
    (other,) = audit(run, "toy", tree(), BoundedUser(), tiny(), cases=2, only=("held-out",))
    assert other.found["asked in place of who judged"] == BoundedUser().name, "asked, and said so"


def test_where_nobody_is_asked_the_judgements_that_there_are_count() -> None:
    stored = {"a": [(1.0, 0.9, 0.01)] * 2, "b": [(0.0, 0.8, 0.64), (1.0, 0.6, 0.16)]}
    found = held_out(replace(bench([], agreeing), nobody="nobody", stored=stored))
    assert found["predicted"]["value"] == 0.75 and found["predicted"]["cases"] == 2 and found["judged in training"]
    assert found["expected"]["value"] == pytest.approx(0.8)
    assert found["surer than right"]["value"] == pytest.approx(0.05)


def test_people_who_are_asked_judge_new_pairs_and_mark_what_assistants_said(trained: Path, tmp_path: Path) -> None:
    def answer(line: str) -> None:
        assert str(asked) in line or "judgements" in line
        with closing(Labels(asked)) as labels:
            for question in labels.claim("Zuleika", 50):
                marks: dict[str, Verdict] = {one.at: "no" for one in said(question.pair) if one.answer is not None}
                assert "drawn at random" not in question.instruction or len(marks) == 1
                shown = marks if question.assisted("Zuleika") else {}
                labels.answer(f"key of {question.id}", question.id, "Zuleika", "first", marks=shown)

    user = HumanUser(unassisted=0.0, grace=0.0, poll=0.01, tell=answer)
    run = by_people(trained, tmp_path / "run", user)
    asked = run / "trust" / "asked"
    before = files(run)
    parts = ("held-out", "spot-checks", "misleading")
    found = {one.part: one.found for one in audit(run, "toy", tree(), user, tiny(), cases=2, only=parts)}
    assert found["held-out"]["predicted"]["n"] == 2 and "judged in training" not in found["held-out"]
    (kinds,) = (one for who, one in found["spot-checks"].items() if who == "toy/sub")
    assert {one["value"] for one in kinds.values()} == {1} and found["spot-checks"]["not marked"]["value"] == 0
    assert "not lied to" in found["misleading"]["wrong"]["user says otherwise"]["not_known"]
    assert {name: body for name, body in files(run).items() if not name.startswith("trust/")} == before
    assert people(run)["Zuleika"] > 0 and "Zuleika" not in "".join(str(one) for one in found.values())
    assert _run_of(asked) == run.resolve() and _run_of(run) == run, "rrm label shows them beside the run's own"
    forget(run, "Zuleika", "keep")
    assert "Zuleika" not in people(run) and b"Zuleika" not in (asked / "labels.db").read_bytes()


def test_what_was_found_of_other_weights_is_in_no_certificate(trained: Path, tmp_path: Path) -> None:
    run = by_people(trained, tmp_path / "run", HumanUser())
    [*audit(run, "toy", tree(), None, tiny(), cases=2, only=("misleading",))]
    with Reader(run) as reader:
        _, (one,) = shelf.kept(run, reader, "toy")
        assert one["name"] == "misleading" and "reward model turned" in one["found"]["wrong"]
        path = run / "trust" / "toy" / "audits" / "misleading.json"
        body = json.loads(path.read_text())
        path.write_text(json.dumps({**body, "weights": {**body["weights"], "reward": "0" * 64}}))
        assert shelf.kept(run, reader, "toy") == ({}, [])


def test_an_agent_that_acts_is_audited_as_far_as_that_makes_sense(tmp_path: Path) -> None:
    bandit = example("custom_agent")
    for machines in (8, 60):
        out = tmp_path / str(machines)
        task = replace(bandit.pull, cases=Pool(tuple(Case(f"machine {i}") for i in range(machines))))
        train(task, BoundedUser(), bandit.Bandits(), out)
        parts = audit(out, "pull", task, BoundedUser(), bandit.Bandits(), cases=8, budget=2)
        if machines == 8:
            assert "no case that was not judged" in next(parts).found["not_known"]
            parts.close()
    found = {one.part: one.found for one in parts}
    assert found["metamorphic"]["holds"] and "value" in found["held-out"]["predicted"]
    assert "acts" in found["adversarial"]["optimized"]["not_known"]
    assert "acts" in found["irrelevant"]["not_known"]
