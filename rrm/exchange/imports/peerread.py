"""PeerRead (Kang et al. 2018, arXiv 1804.09635): reviewers' scores of single papers, made into comparisons of two.

A row is a paper: `title`, `abstract`, and `reviews` with RECOMMENDATION (1 to 5; ICLR: 1 to 10) and aspect scores
(1 to 5), texts or numbers, often missing. The recommendation is the parent's judgement; CLARITY, ORIGINALITY,
SOUNDNESS_CORRECTNESS and SUBSTANCE are the children's.

How scores become comparisons. The reviewers are nameless (an "AnonReviewer1" is another person at the next paper), so
no two papers can be compared as the same person saw them: a paper's score is the mean over its reviews that have it,
meta-reviews left out, and of two papers the one with the higher mean is preferred; means no further apart than `tie`
are a tie. Only papers of one venue and split are compared, since scales differ. They are dealt into groups of `group`,
by a hash, and compared within their group: a group is a case, so that no paper is in two cases, and what is held out
or resampled by case is so by paper.

How scores become assistance. On each paper, each aspect's mean score is what an assistant (the reviewers) found: four
facts, that the paper is at least 2, 3, 4 and 5 of 5. The share of facts that do not hold is then (5 - score) / 4. An
aspect nobody scored is N/A. Comments are not imported: they speak of all aspects at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Answer, Assistance, Case, Finding, Outcome, digest
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import LeftOut, SourceRow, text_of
from rrm.exchange.imports.contents import json_in

ASPECTS = {
    "clarity": "CLARITY", "originality": "ORIGINALITY", "soundness": "SOUNDNESS_CORRECTNESS", "substance": "SUBSTANCE"
}  # fmt: skip
"""Child -> the review's key. A tree that is to read the assistance has these assistants, in this order."""
HIGHEST = 5
MOST = 10
"""The highest recommendation of any venue."""
SPLITS = ("train", "dev", "test")


class Dealing(BaseModel):
    """How papers become comparisons."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    group: int = Field(default=4, ge=2)
    """Papers that are compared with each other; a group of n gives n (n - 1) / 2 pairs."""
    tie: float = Field(default=0.0, ge=0)
    """Mean scores no further apart than this are a tie."""
    text: Literal["abstract", "paper"] = "abstract"
    """What of a paper is compared: title and abstract, or the sections too (of `parsed_pdfs`)."""
    children: bool = True
    """Whether aspect scores become comparisons at the children, beside the assistance on the parent's."""


@dataclass(frozen=True)
class Score:
    """A mean over reviews, and of how many."""

    mean: float
    reviews: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.reviews} review{'s' * (self.reviews != 1)})"


@dataclass(frozen=True)
class ReviewedPaper:
    """A paper and its scores: "recommendation", and those of ASPECTS that somebody gave."""

    id: str
    venue: str
    split: str
    text: str
    scores: Mapping[str, Score]
    confidence: Score | None
    file: str
    number: int


def paper_of(row: SourceRow, dealing: Dealing, notes: Counter[str]) -> ReviewedPaper:
    """A row as a paper. Raises `ExchangeError` if it is none, `LeftOut` if nobody recommended it or it has no text.

    `notes` counts scores that are none ("excellent", 7 of 5): they count as missing.
    """
    values = row.values
    reviews = [review for review in _reviews(values.get("reviews")) if not _of(review, "IS_META_REVIEW")]
    scores: dict[str, Score] = {}
    for name, key in {"recommendation": "RECOMMENDATION", **ASPECTS}.items():
        if (score := _mean(reviews, key, MOST if name == "recommendation" else HIGHEST, notes)) is not None:
            scores[name] = score
    if "recommendation" not in scores:
        raise LeftOut("a paper that nobody recommended or advised against")
    venue, split = _venue(row)
    title = text_of(values.get("title") or "", "title").strip()
    id = values.get("id")
    name = str(id) if id not in (None, "") else row.path.stem if _placed(row) and row.path else title
    text = _text(row, title, dealing)
    confidence = _mean(reviews, "REVIEWER_CONFIDENCE", HIGHEST, notes)
    return ReviewedPaper(text_of(name, "id"), venue, split, text, scores, confidence, row.file, row.number)


def deal(papers: Sequence[ReviewedPaper], group: int) -> tuple[list[list[ReviewedPaper]], int]:
    """Groups of papers of one venue and split, and how many papers are alone in theirs.

    A hash decides: the same papers give the same groups. A rest of one joins the last group.
    """
    latest = {(paper.venue, paper.split, paper.id): paper for paper in papers}  # as PeerRead reads its own files
    places: dict[tuple[str, str], list[ReviewedPaper]] = {}
    for (venue, split, _), paper in latest.items():
        places.setdefault((venue, split), []).append(paper)
    groups: list[list[ReviewedPaper]] = []
    alone = 0
    for _, members in sorted(places.items()):
        members.sort(key=lambda paper: digest("deal", paper.venue, paper.split, paper.id))
        dealt = [members[i : i + group] for i in range(0, len(members), group)]
        if len(dealt[-1]) == 1:
            (last,) = dealt.pop()
            if not dealt:
                alone += 1
                continue
            dealt[-1].append(last)
        groups += dealt
    return groups, alone


def comparisons_of(
    papers: Sequence[ReviewedPaper], node: str, dealing: Dealing
) -> Iterator[tuple[Comparison, ReviewedPaper, ReviewedPaper]]:
    """Every two papers of a group, compared at `node` and (`dealing.children`) at each aspect both have a score of."""
    for members in deal(papers, dealing.group)[0]:
        venue, split = members[0].venue, members[0].split
        data = {"venue": venue, "split": split, "papers": [paper.id for paper in members]}
        case = Case(f"Write a paper for {venue}.", data)
        for i, first in enumerate(members):
            for second in members[i + 1 :]:
                coin = int(digest("first", venue, split, first.id, second.id), 16) % 2
                a, b = (first, second) if coin else (second, first)
                pair = Pair(node, case, Outcome(a.text), Outcome(b.text), said(a, node), said(b, node))
                yield _compared(pair, a, b, "recommendation", dealing), a, b
                for aspect in ASPECTS if dealing.children else ():
                    if aspect in a.scores and aspect in b.scores:
                        child = Pair(f"{node}/{aspect}", case, pair.a, pair.b)
                        yield _compared(child, a, b, aspect, dealing), a, b


def dealt(case: Case) -> dict[str, str]:
    """Paper -> case, of a case that is a group of papers; empty for any other."""
    papers = case.data.get("papers")
    if set(case.data) != {"venue", "split", "papers"} or not isinstance(papers, list):
        return {}
    return {f"{case.data['venue']}/{case.data['split']}/{paper}": case.id for paper in papers}


def _compared(pair: Pair, a: ReviewedPaper, b: ReviewedPaper, name: str, dealing: Dealing) -> Comparison:
    if pair.a == pair.b:
        preference = None  # the same text twice: see `rrm.exchange.imports.loading`
    else:
        difference = a.scores[name].mean - b.scores[name].mean
        preference = 0.5 if abs(difference) <= dealing.tie + 1e-9 else float(difference > 0)
    note = f"{name} {a.scores[name]} against {b.scores[name]}"
    if name == "recommendation" and a.confidence and b.confidence:
        note += f"; confidence {a.confidence.mean:.2f} against {b.confidence.mean:.2f}"
    return Comparison(pair, Judgement(preference, note=note), -1, f"reviewers({a.venue})")


def said(paper: ReviewedPaper, node: str) -> tuple[Assistance, ...]:
    """What the reviewers found of a paper, aspect by aspect, as assistance at `node`."""
    out = []
    for aspect in ASPECTS:
        answers: tuple[Answer, ...] = ()
        if (score := paper.scores.get(aspect)) is not None:
            question = Case(f"From 1 to 5, how good is the {aspect}?", {"paper": paper.id, "venue": paper.venue})
            found = tuple(Finding(f"{aspect}-{level}", score.mean >= level - 1e-9) for level in range(2, HIGHEST + 1))
            answers = (Answer(question, Outcome(f"{aspect} {score.mean:.2f}"), found, None),)
        out.append(Assistance(f"{node}/{aspect}", f"reviewers:{paper.venue}", answers))
    return tuple(out)


# --- reading a row -----------------------------------------------------------------------------------


def _reviews(value: object) -> list[Mapping[str, Any]]:
    """The reviews of a paper: a list of them, or (the hub's version) a column of each key."""
    if isinstance(value, Mapping):
        columns = {key: column for key, column in value.items() if isinstance(column, list)}
        if len({len(column) for column in columns.values()}) > 1:
            raise ExchangeError("reviews: columns of unequal length")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(review, Mapping) for review in value):
        raise ExchangeError(f"reviews: {str(value)[:60]!r} is not a list of reviews")
    return value


def _of(review: Mapping[str, Any], key: str) -> Any:
    """A review's value: PeerRead's keys are in capitals (not all: is_meta_review), the hub's in small letters."""
    found = review.get(key)
    return review.get(key.lower()) if found is None else found


def _mean(reviews: Sequence[Mapping[str, Any]], key: str, highest: int, notes: Counter[str]) -> Score | None:
    found = []
    for review in reviews:
        value = _of(review, key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        score = _number(value)
        if score is None or not 1 <= score <= highest:
            notes[f"{key} that is no score of 1 to {highest}"] += 1
        else:
            found.append(score)
    return Score(sum(found) / len(found), len(found)) if found else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _placed(row: SourceRow) -> bool:
    """Whether a row's file is where PeerRead has it: VENUE/SPLIT/reviews/ID.json."""
    return row.path is not None and row.path.resolve().parent.name == "reviews"


def _venue(row: SourceRow) -> tuple[str, str]:
    """By the file's place, or else what the row says, or else the file."""
    if _placed(row) and row.path is not None:
        split = row.path.resolve().parent.parent
        return (split.parent.name, split.name) if split.name in SPLITS else (split.name, "")
    venue = row.values.get("conference") or row.values.get("venue") or Path(row.file).name.split(".")[0]
    return text_of(venue, "conference"), text_of(row.values.get("split") or "", "split")


def _text(row: SourceRow, title: str, dealing: Dealing) -> str:
    abstract = row.values.get("abstract")
    parsed = _parsed(row) if dealing.text == "paper" or not abstract else {}
    abstract = text_of(abstract or parsed.get("abstractText") or "", "abstract").strip()
    if not abstract:
        raise LeftOut("a paper without an abstract")
    parts = [title, abstract]
    if dealing.text == "paper":
        sections = parsed.get("sections")
        if not isinstance(sections, list) or not sections:
            raise LeftOut("a paper without sections (no parsed PDF)")
        for section in sections:
            if not isinstance(section, Mapping):
                raise ExchangeError(f"sections: {str(section)[:60]!r} is no section")
            for key in ("heading", "text"):
                parts.append(text_of(section.get(key) or "", f"a section's {key}").strip())
    return "\n\n".join(part for part in parts if part)


def _parsed(row: SourceRow) -> Mapping[str, Any]:
    """The parsed PDF of a paper, in the row or in a file beside it; empty if there is none."""
    inside = row.values.get("metadata") or row.values
    if isinstance(inside, Mapping) and inside.get("sections"):
        return inside
    if not _placed(row) or row.path is None:
        return {}
    path = row.path.parent.parent / "parsed_pdfs" / f"{row.path.stem}.pdf.json"
    try:
        value = json_in(path)
    except FileNotFoundError:
        return {}
    metadata = value.get("metadata") if isinstance(value, dict) else None
    return metadata if isinstance(metadata, dict) else {}
