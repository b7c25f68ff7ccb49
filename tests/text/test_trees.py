"""The paper's examples in words, end to end: a tiny model plays every role, tools give evidence, a model judges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rrm import Assistant, Malformed, Outcome, RRMError, Settings, Task, check, train
from rrm.core.records import Group
from rrm.core.task import assist
from rrm.core.validation import faults, plant
from rrm.loop.recursion import frame_all
from rrm.store.store import Store
from rrm.worlds.texts import read_texts
from rrm_assistants.text import novelty
from rrm_tasks import novel, research_paper
from tests.text import tiny

REASON = "the tools are needed; pip install -e '.[tools]'"
for package in ("harper", "bm25s", "sympy", "z3"):
    pytest.importorskip(package, reason=REASON)

from rrm_assistants.tools.novelty import Novelty  # noqa: E402

SMALL = Settings(
    rounds=1, cases=4, outcomes=4, comparisons=10, frame_cases=2, max_tokens=10, drafts=1, steps=1, batch=2, group=2,
    accept=2,
)  # fmt: skip
PAPER = """Title: Rest helps
Claim: Resting longer lets people do more push-ups.
Computation: (14 + 16 + 18) / 3
Result: 17
Proof:
(n + 1)^2 - n^2 = 2n + 1
2n = n^2"""


def small(task: Task, **values: int) -> Task:
    """The tree at the least settings; known works by their words alone, as MiniLM is a large wheel."""
    subs = tuple(small(sub) if isinstance(sub, Task) else sub for sub in task.assistants)
    return replace(task, settings=SMALL.model_copy(update=values), assistants=subs)


def paper() -> Task:
    tree = research_paper.research_paper()
    words_only = novelty(Novelty(research_paper.KNOWN, meaning=None))
    return small(
        replace(tree, assistants=tuple(words_only if s.name == "novelty" else s for s in tree.subtasks)),
        max_tokens=100,  # its headings are written letter by letter
    )  # fmt: skip


TREES = {"research_paper": paper, "novel": lambda: small(novel.novel())}


@pytest.mark.parametrize("name", TREES)
def test_every_aspect_is_covered(name):
    assert not faults(plant(TREES[name]()))
    task = TREES[name]()
    kept = tuple(sub for sub in task.assistants if "writing" not in sub.covers)
    assert any("'writing'" in fault.what for fault in faults(plant(replace(task, assistants=kept))))


@pytest.mark.parametrize("name", ["novel", pytest.param("research_paper", marks=pytest.mark.slow)])
def test_a_tiny_round_end_to_end(name, tmp_path: Path):
    task = TREES[name]()
    root = train(task, tiny.user(), tiny.backbone(), tmp_path)
    store = Store(tmp_path / "run.db")
    judged = {task for task, _ in store.rounds()}
    assert judged == {node.path for node in root.task.walk() if node.path.startswith(name)}
    comparisons = store.comparisons(name)
    assert comparisons and all(c.preference in (0.0, 0.5, 1.0) for c in comparisons)
    for comparison in comparisons:
        assert [a.name for a in comparison.assistance_a] == [sub.name for sub in task.subtasks]
    tree = json.loads((tmp_path / "config.json").read_text())["tree"]
    assert tree[f"{name}/writing"]["tools"]["harper"].startswith("harper-py ")
    writing = next(a for c in comparisons for a in c.assistance_a if a.name == "writing")
    assert "The tool harper says (it can be wrong):" in writing.answers[0].case.prompt
    assert writing.answers[0].case.data["version"] == tree[f"{name}/writing"]["tools"]["harper"]
    again = train(task, tiny.user(), tiny.backbone(), tmp_path)
    assert again.version == root.version


def test_writing_is_the_same_assistant_in_both_trees():
    trees = [research_paper.task, novel.task]
    one, other = (next(sub for sub in tree.subtasks if sub.name == "writing") for tree in trees)
    text = Outcome("She recieve a map.")
    assert one.frame(trees[0].cases.draw(1, "")[0], text)[0].prompt == other.frame(
        trees[1].cases.draw(1, "")[0], text)[0].prompt  # fmt: skip
    assert one.tools == other.tools


def finished(task: Task) -> list[Assistant]:
    """The tree's finished assistants: its tools."""
    return [a for node in task.walk() for a in node.assistants if isinstance(a, Assistant)]


def test_tools_below_critics_examine_the_paper_and_not_the_critique():
    task = plant(paper())
    case = task.cases.draw(1, "")[0]
    said = {}
    for node in task.assistants:
        for tool in finished(node):
            (asked,) = frame_all(node, [Group(case, (Outcome(PAPER),))])
            critique = Group(asked, (Outcome("yes"), Outcome("no")))
            said[tool.task.name] = [one.text for (one,) in assist([tool], [critique])[0].assistance]
    assert said == {
        "rerun": ['rerun wrong result ("17": it is 16.0)'] * 2,
        "algebra": ['algebra wrong step2 ("2n = n^2": it fails at n = 1)'] * 2,
    }


def test_a_paper_without_proof_or_computation_is_not_applicable():
    task = plant(paper())
    case = task.cases.draw(1, "")[0]
    cases = {node.name: node.frame(case, Outcome("Title: Rest helps")) for node in task.assistants}
    assert [name for name, framed in cases.items() if not framed] == ["experiments", "proofs"]


def test_facts_are_of_form_only():
    case = research_paper.task.cases.draw(1, "")[0]
    facts = research_paper.facts(case, Outcome(PAPER))
    assert [f.name for f in facts] == ["has-title", "has-claim", "has-computation", "has-result", "has-proof"]
    spans = research_paper.locate(case, Outcome(PAPER))
    assert PAPER[slice(*spans["result"])] == "Result: 17" and PAPER[slice(*spans["step2"])] == "2n = n^2"
    for task, text in ((research_paper, ""), (novel, "123 ...")):
        with pytest.raises(Malformed):
            task.facts(case, Outcome(text))


def test_your_own_texts(tmp_path: Path):
    (tmp_path / "b.txt").write_text("Two crows share a nest.\n")
    (tmp_path / "a.md").write_text("A goat learns to swim.")
    (tmp_path / "c.pdf").write_bytes(b"\xff")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"outline": "One"}\n\n{"title": "Two", "abstract": "is more"}\n{"text": "Three"}\n')
    assert read_texts(tmp_path) == ("A goat learns to swim.", "Two crows share a nest.")
    assert read_texts(rows) == ("One", "Two. is more", "Three")
    prompts = [case.prompt for case in check(novel.novel(tmp_path)).cases.draw(2, "")]
    assert sorted(p.rsplit("Outline: ")[1] for p in prompts) == list(read_texts(tmp_path))
    tree = research_paper.research_paper(rows, known=rows)
    (tool,) = next(sub for sub in tree.subtasks if sub.name == "novelty").tools
    assert tool.works == read_texts(rows)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "no texts"), ("x", "line 1: not JSON"), ('{"a": 1}', "line 1: no text"), ('{"text": 3}', "no text"),
        ("[1]", "no text"),
    ],
)  # fmt: skip
def test_texts_that_are_none_are_named(content, message, tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    with pytest.raises(RRMError, match=message):
        read_texts(file)
    with pytest.raises(RRMError, match="cannot read"):
        read_texts(tmp_path / "none.jsonl")
