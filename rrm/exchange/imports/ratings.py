"""What the numbers beside a pair say: who is better they do not decide, but they may call it a tie, or contradict it.

A rating of each outcome goes by many names (`score_chosen`, `chosen_score`, `chosen-rating`, `rejected_avg_rating`, a
list `rating` of two), and so does their difference (`margin`). The units nobody states, so that they change no
preference but in two ways: equal ratings are a tie, and a row whose ratings contradict its order is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import LeftOut, Row

RATING = re.compile(r"scores?|ratings?|rewards?|grades?|quality|elo|helpfulness|points|stars")
"""Words of a rating's name, of which the higher is the better."""
RANK = re.compile(r"ranks?|ranking|place")
"""And of which the lower is."""
OTHERWISE = re.compile(
    r"counts?|n|num|number|std|var|variance|model|models|reason|rationale|text|source|length|len|neg|negative"
    r"|loss|cost|error|errors|perplexity|ppl|toxic|toxicity|harm|harmful|harmfulness|unsafe|severity|risk"
)
"""Words of a name that is of something else about a rating, or of what is the worse the more there is of it."""
MISSING = ("", "n/a", "na", "none", "null")
LISTS = ("rating", "ratings", "score", "scores", "reward", "rewards")
MARGINS = (
    "margin", "score_margin", "rating_margin", "reward_margin", "score_diff", "rating_diff", "reward_diff",
    "score_delta", "rating_delta",
)  # fmt: skip
VERDICTS = ("status", "winner", "label", "verdict", "tie", "is_tie")
"""Columns that may say that nothing was chosen."""


OR = " (if it is no rating, --ignore its columns)"


def said(row: Row) -> tuple[float | None, str]:
    """(0.5 if it is a tie, else None; what to note). Raises `LeftOut` if a rating contradicts the order, and
    `ExchangeError` if one is no number."""
    tie, notes = _tie(row), []
    for name, chosen, rejected in [*_pairs(row), *_listed(row)]:
        higher = chosen > rejected if not _words(name, RANK) else chosen < rejected
        if chosen != rejected and not higher:
            raise LeftOut(f"the {name} says that the rejected outcome is better{OR}")
        tie = tie or chosen == rejected
        notes.append(f"{name} {chosen:g} against {rejected:g}")
    for name in MARGINS:
        if (margin := number(row, name)) is not None:
            if margin < 0:
                raise LeftOut(f"the {name} says that the rejected outcome is better{OR}")
            tie = tie or margin == 0
            notes.append(f"{name} {margin:g}")
    return 0.5 if tie else None, "; ".join(notes)


def _pairs(row: Row) -> list[tuple[str, float, float]]:
    """(name without chosen and rejected, the chosen outcome's, the rejected one's) of ratings in two columns."""
    found = []
    for name in row.raw:
        stem = re.sub(r"(?i)(?:^|(?<=[\W_]))chosen(?=[\W_]|$)", "*", name)
        if "*" not in stem or not (_words(stem, RATING) or _words(stem, RANK)) or _words(stem, OTHERWISE):
            continue
        other = next((o for o in row.raw if o.lower() == stem.lower().replace("*", "rejected")), None)
        if other is None or any(isinstance(row.raw[one], list | Mapping) for one in (name, other)):
            continue
        chosen, rejected = number(row, name), number(row, other)
        if chosen is not None and rejected is not None:
            found.append((stem.replace("*", "").strip("-_. "), chosen, rejected))
    return found


def _listed(row: Row) -> list[tuple[str, float, float]]:
    """The same of ratings in a list of two. Whose is the first is said by `generations` or `order`, where they are."""
    found = []
    for name in LISTS:
        both = row.raw.get(name)
        if not isinstance(both, Sequence) or isinstance(both, str) or len(both) != 2 or any(map(_not_number, both)):
            continue
        first, second = (float(one) for one in row[name])
        for named, ends in (("generations", (row.raw.get("chosen"), row.raw.get("rejected"))),
                            ("order", ("chosen", "rejected"))):  # fmt: skip
            given = row.raw.get(named)
            if isinstance(given, list) and given in (list(ends), list(reversed(ends))):
                row[named]  # it is read
                if given != list(ends):
                    first, second = second, first
                break
        found.append((name, first, second))
    return found


def _tie(row: Row) -> bool:
    """Whether a column says that it is one. What else such a column says is not read."""
    for name in VERDICTS:
        value = row.raw.get(name)
        if (isinstance(value, str) and re.match(r"(?i)(?:tie|tied|draw|equal)\b", value.strip())) or (
            value is True and name in ("tie", "is_tie")
        ):
            row[name]
            return True
        if name == "status" and value in ("unchanged", "swapped"):  # distilabel's: the order is as it should be
            row[name]
    return False


def _words(name: str, which: re.Pattern[str]) -> bool:
    return any(which.fullmatch(word) for word in re.split(r"[\W_]+", name.lower()))


def _not_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    try:
        return not math.isfinite(value)
    except OverflowError:  # of an integer
        return True


def number(row: Mapping[str, Any], name: str) -> float | None:
    """A column's number, None without one. Raises `ExchangeError` for anything else."""
    value = row.get(name)
    if missing(value):
        return None
    return number_of(value, name)


def missing(value: object) -> bool:
    """Whether it says that there is no number."""
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING)


def number_of(value: object, what: str) -> float:
    """A finite number, or the text of one. Raises `ExchangeError` for anything else."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if _not_number(value):
        raise ExchangeError(f"{what} {str(value)[:60]!r} is no number")
    return float(value)  # type: ignore[arg-type]
