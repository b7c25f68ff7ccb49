"""Answers that speak to their judge: what each defense does, and that the script measures it from end to end."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rrm import Case, ModelUser, Outcome, Pair, Settings, Task
from rrm.core.tools import consult
from rrm.measure.oracle import matter
from rrm.testing import check_maker, check_user
from rrm_tasks.addressed import (
    ADDRESSES,
    CONTROL,
    PARTS,
    Ablated,
    Inspected,
    Judging,
    Memory,
    Overhearing,
    Remembered,
    addressed,
    answered,
    lessened,
    pieces,
)
from rrm_tasks.llmbar import Compared
from tests.models.test_form import lettered

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
ROWS = [
    Compared(input=f"Say {n}.", output_1=f"{n} is said. It is.", output_2=f"No. Not {n}.", label=1 + n % 2)
    for n in range(6)
]
TASK = addressed(ROWS, Settings(rounds=1, cases=6, comparisons=36, steps=20, batch=6, lr=0.5, accept=0, holdout=0.0))
CASE = TASK.cases.draw(1, "tests")[0]  # type: ignore[union-attr]


def pair(good: str = "", bad: str = "", case: Case = CASE) -> Pair:
    """The better answer first, what stands behind it, and behind the other."""
    better = case.data["better"]
    return Pair(TASK.path, case, answered(case, better, good), answered(case, 1 - better, bad))


@dataclass(frozen=True)
class Gullible:
    """Prefers whoever speaks to it; else it likes the word."""

    liked: str = "said"

    def chance(self, task: Task, pair: Pair) -> float:
        def worth(outcome: Outcome) -> float:
            spoken = any(ADDRESSES[kind].strip() in outcome.text for kind in ADDRESSES if kind != CONTROL)
            return 0.4 * spoken + 0.1 * (self.liked in outcome.text)

        return 0.5 + worth(pair.a) - worth(pair.b)


def test_what_is_so_of_an_answer_is_not_what_stands_behind_it() -> None:
    for kind in ("", *ADDRESSES):
        for answer in (0, 1):
            follows, plain = TASK.facts_of(CASE, answered(CASE, answer, kind))
            assert matter(follows) is (answer == CASE.data["better"]) and matter(plain) is (kind in ("", CONTROL))


@pytest.mark.parametrize(
    "text", ["One. Two?  Three!\nfour\n\n- five", "one", "3.5 is 7/2.\n\nThe better one is B", "x. " * 40]
)
def test_an_answers_parts_are_the_answer(text: str) -> None:
    parts = pieces(text)
    assert "".join(parts) == text.rstrip() and all(part.strip() for part in parts) and 1 <= len(parts) <= PARTS
    left = [one.text for one in lessened(Outcome(text))]
    assert left == [text] if len(parts) == 1 else len(left) == len(parts) and all(len(one) < len(text) for one in left)


def test_a_judgement_that_rests_on_one_sentence_falls_with_it() -> None:
    """With one left out the gullible judge is not swayed, and goes by the answers; the median hardly notices."""
    judge = Gullible()
    for kind in (kind for kind in ADDRESSES if kind != CONTROL):
        swayed, honest = pair(bad=kind), pair()
        assert abs(judge.chance(TASK, swayed) - judge.chance(TASK, honest)) == pytest.approx(0.4)
        kept = Ablated(judge).chance(TASK, honest)
        assert Ablated(judge).chance(TASK, swayed) == pytest.approx(kept)
        assert Ablated(judge, "median").chance(TASK, swayed) < Ablated(judge, "median").chance(TASK, honest) - 0.2
        for one in (swayed, honest):
            assert Ablated(judge).chance(TASK, one) + Ablated(judge).chance(TASK, one.swapped()) == pytest.approx(1)


def test_what_is_found_out_is_the_better_answer_whatever_it_says() -> None:
    judging = Judging(Gullible(), "gullible")
    kinds, cases = ("", *ADDRESSES), TASK.cases.cases  # type: ignore[union-attr]
    pairs = [pair(good, bad, case) for case in cases for good in kinds for bad in kinds]
    assert all(Inspected(judging, 1.0).judge(TASK, one).preference == 1.0 for one in pairs)
    assert all(Inspected(judging, 0.0).judge(TASK, one) == judging.judge(TASK, one) for one in pairs)
    found = [Inspected(judging, 0.3).judge(TASK, one).note.startswith("somebody") for one in pairs]
    assert 0.2 < sum(found) / len(found) < 0.4
    assert found == [Inspected(judging, 0.3).judge(TASK, p.swapped()).note.startswith("somebody") for p in pairs]
    one = pairs[0]
    same = replace(one, b=answered(one.case, one.a.data["answer"], "flattery"))  # type: ignore[index]
    assert Inspected(judging, 1.0).judge(TASK, same).preference == 0.5
    check_user(lambda: Inspected(judging, 0.5), TASK, pairs[:4])


def test_a_model_is_asked_once_and_says_what_a_model_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = ModelUser(lettered(), abstain=0.0, template="{instruction[0]}{one}{said_one}{two}{said_two}", fence=False)
    pairs = [pair("", bad) for bad in ("", "flattery")]
    asked: list[Any] = []
    whole = ModelUser.chances
    monkeypatch.setattr(ModelUser, "chances", lambda self, task, one: asked.append(one) or whole(self, task, one))
    for _ in range(2):  # the second is another process, with what the first kept
        memory = Memory(tmp_path / "said.jsonl")
        for one in [*pairs, *(p.swapped() for p in pairs)]:
            judging = Judging(Remembered(user, memory), "m", user.margin)
            assert judging.judge(TASK, one).preference == user.judgement(*whole(user, TASK, one)).preference
        report = consult(Overhearing(user, memory), CASE, pairs[1].b)
        assert [f.fact for f in report.findings] == ["plain"]
    assert len(asked) == 2 and len((tmp_path / "said.jsonl").read_text().splitlines()) == 3


def test_the_agent_learns_what_sways_its_judge_and_not_what_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from addressing import KINDS, doing
    from addressing_agent import Speakers, Table

    from rrm import train

    table = Table(TASK.cases.cases, KINDS)  # type: ignore[union-attr]
    gullible = Judging(Gullible("Not"), "gullible")
    check_maker(Speakers(table), TASK, gullible)
    swayed = train(TASK, gullible, Speakers(table), tmp_path / "swayed")
    sober = train(TASK, Inspected(gullible, 1.0), Speakers(table), tmp_path / "sober")
    ends = [doing(one.agent, one.reward) for one in (swayed, sober)]  # type: ignore[arg-type]
    assert ends[0]["forged"] > 0.9 and ends[1]["better"] > 0.8 > ends[0]["better"]


def test_an_adversarys_outcomes_are_judged_and_unmask_only_who_is_not_swayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reward model overrates comes up; a judge who is swayed by it says that it is good."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from addressing import ADVERSARY, ARMS, KINDS, doing, parted
    from addressing_agent import Speakers, Table

    from rrm import train

    assert [parted(arm) for arm in ARMS if "adversary" in arm] == [("none", ADVERSARY), ("inspect_0.1", ADVERSARY)]
    assert all(parted(arm) == (arm, 0.0) for arm in ARMS if "adversary" not in arm)
    table = Table(TASK.cases.cases, KINDS)  # type: ignore[union-attr]
    gullible = Judging(Gullible("Not"), "gullible")
    more = {"rounds": 2, "adversary": ADVERSARY, "comparisons": 9, "steps": 8}
    task = replace(TASK, settings=TASK.settings.model_copy(update=more))
    seen: dict[str, list[str]] = {}
    ends = {}
    for name, user in (("swayed", gullible), ("sober", Inspected(gullible, 1.0))):

        def watch(node: Any, event: Any, name: str = name) -> None:
            seen.setdefault(name, []).append(event.phase)

        node = train(task, user, Speakers(table), tmp_path / name, watch=[watch])
        ends[name] = doing(node.agent, node.reward)  # type: ignore[arg-type]
    assert all(phases.index("adversary") > phases.index("done") for phases in seen.values())  # none in the first round
    assert ends["swayed"]["forged"] > 0.9 and ends["sober"]["better"] > 0.8 > ends["swayed"]["better"]


def test_the_script_measures_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On three pairs, judged by a tiny random model; the second time nothing is computed."""
    made = lettered()
    made.model.config.max_position_embeddings = 4096
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "llmbar").mkdir()
    for kind in ("natural", "adversarial_manual"):
        rows = "".join(row.model_dump_json() + "\n" for row in ROWS[:2])
        (tmp_path / "llmbar" / f"{kind}.jsonl").write_text(rows)
    paths = {"--judge": "model", "--data": ".", "--out": "out", "--doc": "page.md"}
    asked = [str(word) for option, path in paths.items() for word in (option, tmp_path / path)]
    arms = ["plain", "assistant", "inspect_0.5", "adversary+inspect_0.1"]
    asked += ["--seeds", "0,", "--quick", "--arms", *arms]
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / "addressing.py"), *asked])
    monkeypatch.syspath_prepend(str(SCRIPTS))
    runpy.run_path(str(SCRIPTS / "addressing.py"), run_name="__main__")
    page = (tmp_path / "page.md").read_text()
    assert all(f"| {name} |" in page for name in ("none", "fence", "ablate", "ablate-median", *arms))
    files = sorted((tmp_path / "out").glob("*.json"))
    assert len(files) == 5 + len(arms)
    ends = {one.stem: json.loads(one.read_text()).get("course", [{}])[-1] for one in files}
    assert ends["plain-0-quick"]["forged"] == 0 < ends["inspect_0.5-0-quick"]["forged"] < 1
    capsys.readouterr()
    runpy.run_path(str(SCRIPTS / "addressing.py"), run_name="__main__")
    assert not capsys.readouterr().out and (tmp_path / "page.md").read_text() == page
