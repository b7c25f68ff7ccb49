"""Episodes to be played: what a run keeps of them, in pictures by their steps, and the steps that assistants speak of.

A film if there is one (`rrm.store.films`); else a strip: what the agent saw and did at steps evenly apart, from the
episode's arrays. What the environment hid from the agent is in neither. Nobody's code is run for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from rrm.core.records import Case, Outcome
from rrm.store import films
from rrm.view.comparisons import ShownAnswer, ShownComparison, Side
from rrm.view.reading import Reader
from rrm.view.text import line

STRIP = 48
"""Pictures of a strip."""
NUMBERS = 12
"""Numbers of an observation that a strip shows."""
WIDE = 24
"""Characters of a number's scale."""
WORDS = 20_000
"""Characters of an answer that are searched for steps."""
MOST = 100
"""Steps on the time line that one outcome's answers name."""
NAMED = re.compile(
    r"(?<![a-z])(?:steps?|moves?|frames?|moment|time)[ _]?[#:=]?[ _]?"
    r"(\d{1,9}(?:(?:, ?| and | to | ?[-–] ?)\d{1,9})*)\b",
    re.IGNORECASE,
)  # fmt: skip
"""How a step is named: "step 7", "at moves 3, 9 and 12", "step7"; "7 steps" is a number of them."""
_case, _outcome = TypeAdapter(Case), TypeAdapter(Outcome)


@dataclass(frozen=True)
class Frame:
    """A picture of an episode after `step` steps: a text, or, if `image`, a PNG."""

    step: int
    caption: str
    text: str = ""
    image: bool = False


@dataclass(frozen=True)
class Clip:
    """An episode of `of` steps in pictures. `case`, `outcome`: their ids, by which a film's images are found."""

    case: str
    outcome: str
    of: int
    frames: tuple[Frame, ...]
    film: bool = True
    """Drawn or rendered; otherwise what was seen and done, in numbers."""


@dataclass(frozen=True)
class Moment:
    """A step that an assistant speaks of, and its words; `holds`: what it finds there, None if it only mentions it."""

    step: int
    by: str
    holds: bool | None
    words: str


def clip_of(folder: Path, case: Case, outcome: Outcome) -> Clip | None:
    """The clip of an outcome in a run's folder; None if it is no episode, or nothing is left of it."""
    episode = (outcome.data or {}).get("episode")
    if not isinstance(episode, str):
        return None
    film = films.read(folder, case.id, outcome.id)
    if film is None:
        return _strip(folder, case, outcome, episode)
    frames = [
        Frame(*one, bool(film.images)) for one in zip(film.steps, film.captions, film.texts, strict=True)
    ]
    return Clip(case.id, outcome.id, film.of, tuple(frames))


def clips_of(run: Reader, c: ShownComparison) -> tuple[Clip | None, Clip | None]:
    """Those of a comparison, A first."""
    case = _record(run, _case, c.case_blob)
    a, b = (_record(run, _outcome, side.blob) if _acted(run, side) else None for side in (c.a, c.b))
    return tuple(  # type: ignore[return-value]
        None if case is None or one is None else clip_of(run.folder, case, one) for one in (a, b)
    )


def _acted(run: Reader, side: Side) -> bool:
    """Whether an outcome's data names an episode; of a long text nothing more is read."""
    query = "SELECT json_extract(body, '$.data.episode') IS NOT NULL FROM blobs WHERE id = ?"
    return bool(run.row(query, (side.blob,))[0])


def _record(run: Reader, kind: TypeAdapter[Any], blob: str) -> Any:
    row = run.row("SELECT body FROM blobs WHERE id = ?", (blob,))
    with suppress(ValidationError):
        return None if row is None else kind.validate_json(row[0])
    return None


def steps_of(pictures: int, of: int) -> list[int]:
    """The steps of so many pictures of an episode of `of` steps: one each, or evenly apart."""
    last = max(1, pictures - 1)
    return [i * of // last for i in range(pictures)]


# --- a strip -------------------------------------------------------------------------------------------


def _strip(folder: Path, case: Case, outcome: Outcome, episode: str) -> Clip | None:
    """From the episode's arrays, of which only the rows that are shown are read; None if they are not there."""
    if not re.fullmatch(r"[0-9a-f]{64}", episode):
        return None
    path = folder / "episodes" / episode[:2] / f"{episode}.safetensors"  # rrm.acting.episodes
    with suppress(OSError, SafetensorError, ValueError, IndexError), safe_open(path, "numpy") as file:
        seen, done = (file.get_slice(name) for name in ("observations", "actions"))
        of, width = done.get_shape()[0], seen.get_shape()[1]
        steps = films.spread(of + 1, STRIP)
        rows = np.stack([seen[step : step + 1][0, :NUMBERS] for step in steps])
        acts = [np.asarray(done[step : step + 1]).ravel()[:NUMBERS] if step < of else None for step in steps]
        lines = _scales(rows)
        more = f"\n({width - NUMBERS} more)" if width > NUMBERS else ""
        frames = [
            Frame(step, f"after {step} of {of} steps", f"saw\n{lines[i]}{more}\n{_did(acts[i])}")
            for i, step in enumerate(steps)
        ]
        return Clip(case.id, outcome.id, of, tuple(frames), film=False)
    return None


def _did(action: Any) -> str:
    return "the end" if action is None else f"then did {' '.join(f'{number:.3g}' for number in action.tolist())}"


def _scales(rows: Any) -> list[str]:
    """(pictures, numbers) -> per picture a line for each number: its value, and where that lies between the least and
    the most that it is in these pictures."""
    low, high = rows.min(0), rows.max(0)
    found = []
    for row in rows:
        lines = []
        for i, value in enumerate(row.tolist()):
            span = float(high[i]) - float(low[i])
            spot = round((value - float(low[i])) / span * (WIDE - 1)) if span > 0 else WIDE // 2
            scale = "".join("●" if n == spot else "─" for n in range(WIDE))
            lines.append(f"{i + 1:>2} {value:>9.3g}  {low[i]:>8.3g} {scale} {high[i]:.3g}")
        found.append("\n".join(lines))
    return found


# --- what is said of steps -----------------------------------------------------------------------------


def named_steps(text: str) -> list[int]:
    """The steps that a text names, in its order."""
    found = [int(number) for match in NAMED.finditer(text[:WORDS]) for number in re.findall(r"\d+", match[1])]
    return list(dict.fromkeys(found))


def moments(by: str, findings: Iterable[tuple[str, bool, str]], text: str, of: int) -> list[Moment]:
    """The steps of an episode of `of` steps that an answer names: in its findings (fact, whether it holds, note), and
    else in its words."""
    found: dict[int, Moment] = {}
    for fact, holds, note in findings:
        for step in named_steps(f"{fact} {note}"):
            found.setdefault(step, Moment(step, by, holds, line(f"{fact}: {note}" if note else fact, 120)))
    for row in text[:WORDS].splitlines():
        for step in named_steps(row):
            found.setdefault(step, Moment(step, by, None, line(row, 120)))
    return [found[step] for step in sorted(found) if step <= of][:MOST]


def moments_of(answers: Sequence[ShownAnswer], of: int) -> list[Moment]:
    """Those of all answers about an outcome, and of what was said of these."""
    found: list[Moment] = []
    for one in answers:
        told = [(str(f["fact"]), bool(f["holds"]), str(f.get("note", ""))) for f in one.findings]
        found += moments(one.name, told, one.text, of) + moments_of(one.below, of)
    return sorted(found, key=lambda moment: moment.step)[:MOST]
