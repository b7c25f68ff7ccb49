"""A tree in which some act and some write: language models that read what an agent did, and help to judge it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rrm
from rrm.acting import Acting, PlaceError, cases, episode_of
from rrm.acting.episodes import ARCHIVE
from rrm.acting.policy import ActingPolicy
from rrm.acting.step_reward import StepReward
from rrm.command.cli import app
from rrm.core.validation import plant
from rrm.learning.text_maker import TextMaker
from rrm.loop.job import Job, perform
from rrm.loop.recursion import frame_all
from rrm.loop.training import maker_of
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel
from rrm.store.journal import Journal, Records
from rrm.worlds.games import King
from rrm_tasks.match import match
from tests import toy
from tests.acting.places import FACTORIES
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted
from tests.models.conftest import network, tokenizer
from tests.test_resume import contents

FAR = "past1"


def read(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Case]:
    """The rendering of a walk, for a model that answers in some words."""
    asked = f"w3 {outcome.text} w4"
    return [rrm.Case(asked, {"episode": (outcome.data or {})["episode"]})]


def yes(outcome: rrm.Outcome) -> bool:
    """What an answer says, of a model that knows no language: an even number of words is a yes."""
    return len(outcome.text.split()) % 2 == 0


def answered(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Finding]:
    return [rrm.Finding(FAR, yes(outcome))]


def right(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Fact]:
    """Whether the answer is right, by what is hidden of the walk that it is about."""
    x = episode_of(case).hidden["x"]
    return [rrm.Fact(FAR, "way", rrm.Sealed(bool(x[-1] - x[0] > 0.1)), claims=yes(outcome))]


def tree() -> rrm.Task:
    walk = task_in("Line")
    settings = walk.settings.model_copy(update={"comparisons": 12, "cases": 4, "steps": 2})
    reads = rrm.Task(
        "reads", "Did it get further?", right, frame=read, findings=answered, covers=("way",),
        settings=toy.SMALL.model_copy(update={"comparisons": 8, "cases": 6, "drafts": 2}),
    )  # fmt: skip
    return plant(replace(walk, path="", settings=settings, assistants=(reads,)))


def maker() -> Acting:
    words = TextMaker(Backbone("tiny", network(), tokenizer(), "full"))
    return Acting(factories=FACTORIES, rollout=24, words=words)


def user(**given: Any) -> Impatient:
    return Impatient(attention=40, error=0.0, biases={}, **given)


def test_a_language_model_reads_what_an_agent_did_and_helps_to_judge_it(tmp_path: Path) -> None:
    root = rrm.train(tree(), user(), maker(), tmp_path)
    (reads,) = root.helpers
    assert isinstance(root.agent, ActingPolicy) and isinstance(root.reward, StepReward)
    assert isinstance(reads.agent, TextAgent) and isinstance(reads.reward, TextRewardModel)
    journal = Journal(tmp_path)
    asked, below = journal.comparisons("walk"), journal.comparisons("walk/reads")
    journal.close()
    assert asked and below
    for c in asked:
        for outcome, assistance in ((c.a, c.assistance_a), (c.b, c.assistance_b)):
            (answer,) = assistance[0].answers
            assert outcome.text in answer.case.prompt, "it read the rendering"
            assert answer.findings == (rrm.Finding(FAR, yes(answer.outcome)),)
    assert any(check.by == "walk/reads" for c in asked for check in c.judgement.checks), "and was checked"
    assert all(episode_of(c.case).observations.size for c in below)


@pytest.mark.parametrize("patience", [pytest.param(3, marks=pytest.mark.slow), 12])
def test_such_a_run_resumes_to_the_same_bits(tmp_path: Path, patience: int) -> None:
    rrm.train(tree(), user(), maker(), tmp_path / "whole")
    with suppress(Interrupted):
        rrm.train(tree(), user(patience=patience), maker(), tmp_path / "cut")
    rrm.train(tree(), user(), maker(), tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_who_reads_may_be_trained_where_nothing_is_known_but_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cases are of episodes that another process played; they come with what is known."""
    whole = tree()
    rrm.train(whole, user(), maker(), tmp_path)
    journal = Journal(tmp_path)
    records = journal.records()
    journal.close()
    (reads,) = whole.subtasks
    groups = maker_in(tmp_path).policy(whole, 0).sample(whole.cases.draw(4, "frame"), 2, "frame")  # type: ignore[union-attr]
    framed = rrm.Pool(tuple(frame_all(reads, groups)))
    journal = Journal(tmp_path)
    beside = journal.records().beside
    journal.close()
    assert len(beside) > len(records.beside)
    monkeypatch.setattr(ARCHIVE, "_recent", OrderedDict())
    monkeypatch.setattr(ARCHIVE, "_folders", [])
    done = perform(Job(reads, framed, 0, known=Records(beside=beside)), maker(), user())
    assert done.files and {row[0] for row in done.tables["comparisons"]} == {"walk/reads"}


def maker_in(folder: Path) -> Acting:
    made = maker()
    made.record(folder)
    return made


def test_a_pool_is_of_places_for_one_agent_or_of_words() -> None:
    def with_cases(*some: Sequence[rrm.Case]) -> rrm.Task:
        return replace(task_in("Line"), cases=rrm.Pool(tuple(case for each in some for case in each)))

    two = with_cases(cases("Line", 4, kwargs={"length": 6}), cases("Line", 4, kwargs={"length": 9}, steps=9))
    policy = maker().policy(two, 0)
    lengths = {len(episode_of(one.outcomes[0])) for one in policy.sample(two.cases.draw(8, "x"), 1, "x")}  # type: ignore[union-attr]
    assert lengths == {6, 9}
    with pytest.raises(PlaceError, match="one agent is to act in both"):
        maker().policy(with_cases(cases("Line", 4), cases("Line", 4, kwargs={"action": "box"})), 0)
    with pytest.raises(PlaceError, match="name an environment and some do not"):
        maker().policy(with_cases(cases("Line", 4), (rrm.Case("Say something."),)), 0)
    with pytest.raises(PlaceError, match="contract"):  # each kind is looked at, not the first alone
        maker().policy(with_cases(cases("Line", 8), cases("Loaded", 8)), 0)


def test_policies_that_nobody_holds_are_not_kept() -> None:
    mine = maker()
    for seed in range(3):
        mine.policy(task_in("Line"), seed)
    import gc

    gc.collect()
    assert len(mine._policies) <= 1


SMALL = {"cases": 4, "comparisons": 8, "steps": 2, "batch": 4, "outcomes": 4, "reward_epochs": 2}


def test_a_game_has_one_who_acts_and_ones_who_reply(tmp_path: Path) -> None:
    """PPO moves, the package's tiny model replies, and the user plays on from where the reply leads."""
    from rrm_tasks.match import SETTINGS, WRITING

    task = match(King(4), 1, SETTINGS.model_copy(update=SMALL), WRITING.model_copy(update=SMALL))
    root = rrm.train(task, rrm.worlds.games.PlayoutUser(), maker_of("ppo+embedded-games"), tmp_path)
    assert isinstance(root.agent, ActingPolicy) and isinstance(root.helpers[0].agent, TextAgent)
    journal = Journal(tmp_path)
    asked = journal.comparisons("match")
    journal.close()
    said = [one for c in asked for one in (*c.assistance_a, *c.assistance_b)]
    assert any(one.findings and "leaves king" in one.findings[0].note for one in said)


def test_the_command_line_takes_both_by_name(tmp_path: Path) -> None:
    (tmp_path / "tree.py").write_text(
        "from rrm_tasks.match import SETTINGS, WRITING, match\nfrom rrm.worlds.games import King\n"
        f"small = {SMALL}\n"
        "task = match(King(4), 1, SETTINGS.model_copy(update=small), WRITING.model_copy(update=small))\n"
    )
    runner = CliRunner()
    tree_file = str(tmp_path / "tree.py")
    done = runner.invoke(app, ["check", tree_file])
    assert done.exit_code == 0 and "0 errors" in done.output, done.output
    done = runner.invoke(app, ["train", tree_file, "--model", "ppo", "--out", str(tmp_path / "a"), "-q"])
    assert done.exit_code == 2 and "words=" in done.stderr
    done = runner.invoke(app, ["train", tree_file, "--out", str(tmp_path / "b"), "-q"])
    assert done.exit_code == 0, done.output
    for node in ("match", "match/reply"):
        done = runner.invoke(app, ["inspect", str(tmp_path / "b"), node, "--limit", "1"])
        assert done.exit_code == 0 and "king column" in done.output, done.output
