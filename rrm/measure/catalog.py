"""`rrm measure`: the experiments by name, their stages, and where results go."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rrm.core.errors import ConfigError, RRMError
from rrm.core.parties import User, Watch
from rrm.core.task import Task
from rrm.core.validation import check
from rrm.measure import people
from rrm.measure.experiment import Experiment, OfArms, document, kept_so_far, measure
from rrm.measure.experiments import (
    accumulation,
    budget,
    challenges,
    depth,
    doors,
    exhaustiveness,
    generator_discriminator,
    human_labels,
    levels,
    misleading,
    move37,
    propagation,
    sandwich,
    share,
    transfer,
)
from rrm.measure.experiments import (
    overoptimization as overoptimisation,
)
from rrm.measure.stage import Labels, Stage
from rrm.models.backbone import Backbone
from rrm.models.precision import limit_threads
from rrm.store.files import write_atomically
from rrm.worlds.games import Positions

EXPERIMENTS: dict[str, Experiment | OfArms] = {
    "sandwich": sandwich,
    "propagation": propagation,
    "misleading": misleading,
    "budget": budget,
    "generator-discriminator": generator_discriminator,
    "transfer": transfer,
    "exhaustiveness": exhaustiveness,
    "doors": doors,
    "overoptimisation": overoptimisation,
    "depth": depth,
    "challenges": challenges,
    "levels": levels,
    "accumulation": accumulation,
    "share": share,
    "move37": move37,
}
GAMES = ("levels", "accumulation", "share", "move37")
"""Experiments of the games' trees."""
THERE_TOO = ("sandwich", "misleading", "depth", "doors")
"""What else can be measured there: the others ask a user who checks facts one by one, or several assistants."""
ONE_DOOR = ("exhaustiveness", "depth")
"""Experiments that train roots on one kind of labels, chosen by --labels; `doors` and `overoptimisation` try all."""
LABELS, LABELS_QUESTION = human_labels.NAME, human_labels.QUESTION
UPLIFT, UPLIFT_QUESTION = people.NAME, people.QUESTION
BY_HAND = "<!-- below: written by hand, kept when the page is renewed -->"
REPORTED = 100
"""The first seed that results are reported on; settings are chosen on seeds 0 to 4."""


@dataclass(frozen=True)
class Size:
    """How much is measured: see `Stage`."""

    pairs: int = 100
    practice: int = 40
    quick: bool = False
    labels: Labels = "assisted"


def chosen(name: str, task: Task) -> list[str]:
    """The experiments meant by a name: one, or "all" that fit the tree. Raises `ConfigError` for another name."""
    if name == "all":
        if isinstance(task.cases, Positions):
            return [*GAMES, *THERE_TOO]
        return [each for each in EXPERIMENTS if each not in GAMES]
    return _named(name)


def _named(name: str) -> list[str]:
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"did you mean {near[0]!r}? There" if near else "there"
        raise ConfigError(f"no experiment {name!r}; {hint} are: {', '.join(EXPERIMENTS)}, all")
    return [name]


def of_labels(
    name: str, labels: str | None, node: str | None, out: Path, command: str, task: Task | None = None
) -> str:
    """`rrm measure human-labels RUN|FILE`, `rrm measure uplift RUN --tree TREE`: of people's labels, without seeds.
    Returns the page, then its path."""
    if name not in (LABELS, UPLIFT):
        raise ConfigError(f"{name} takes no run or file ({labels!r}); only {LABELS} and {UPLIFT} do")
    if labels is None:
        raise ConfigError(f"{name}: of which labels? Give the folder of a run, or a file that `rrm import` takes")
    if name == LABELS:
        page = human_labels.measure(labels, node, out, command)
    elif task is None:
        raise ConfigError(f"{name}: by whose truth? Give --tree, the tree that {labels} was trained with")
    else:
        page = people.measure(Path(labels), task, node, out, command)
    return f"{page.read_text()}\n{page}"


def seeds_of(text: str) -> list[int]:
    """ "5": the first five reported seeds, 100 to 104; "0-4" or "100,103": these."""
    if not re.fullmatch(r"\d+|\d+-\d+|\d+(,\d+)*,?", text.replace(" ", "")):
        raise ConfigError(f"--seeds {text}: give how many (5), a range (0-4), or a list (100,103 or, of one, 100,)")
    text = text.replace(" ", "")
    if "," in text:
        return list(dict.fromkeys(int(one) for one in text.split(",") if one))
    if "-" in text:
        first, last = map(int, text.split("-"))
        if last < first:
            raise ConfigError(f"--seeds {text}: the range ends before it begins")
        return list(range(first, last + 1))
    if not 1 <= int(text) <= 99:
        raise ConfigError(f"--seeds {text}: give how many, 1 to 99; for the one seed {text}, write {text},")
    return list(range(REPORTED, REPORTED + int(text)))


def stages(
    task: Task, user: Callable[[int], User], model: str, out: Path, size: Size, watch: Sequence[Watch] = ()
) -> Callable[[int], Stage]:
    """Makes the stage of a seed, once; the model is loaded once for all."""
    limit_threads()
    task, backbone = check(task), Backbone.load(model)

    @cache
    def of(seed: int) -> Stage:
        def judge() -> User:
            return user(seed)

        return Stage(task, backbone, judge, seed, out, size.pairs, size.practice, size.quick, size.labels, tuple(watch))

    return of


def run(
    names: Sequence[str], stage: Callable[[int], Stage], seeds: Sequence[int], out: Path, command: str,
    say: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Run experiments one after the other; what was finished before is not run again. Raises `ConfigError` if a stage
    says who labels and an experiment does not ask."""
    ignoring = [name for name in names if name not in ONE_DOOR]
    if stage(seeds[0]).labels != "assisted" and ignoring:
        raise ConfigError(
            f"--labels applies to {' and '.join(ONE_DOOR)} only, not to {', '.join(ignoring)}; `rrm measure doors` and "
            "`overoptimisation` try all kinds of labels by themselves"
        )
    for name in names:
        measure(name, EXPERIMENTS[name], stage, seeds, out, command, say)


def there_is(name: str, out: Path, seeds: Sequence[int]) -> str:
    """What there is of an experiment, or of "all" that were begun, without running what is missing; of several, one
    that cannot be summarized yet says why. Raises `RRMError` where there is nothing."""
    begun = [one for one in EXPERIMENTS if any((out / one / f"{seed}.json").exists() for seed in seeds)]
    names = begun if name == "all" else _named(name)
    if not names:
        raise RRMError(f"{out} holds no experiment of these seeds; rrm measure NAME runs one")
    if len(names) == 1:
        return kept_so_far(names[0], EXPERIMENTS[names[0]], seeds, out)
    parts = []
    for one in names:
        try:
            parts.append(kept_so_far(one, EXPERIMENTS[one], seeds, out))
        except RRMError as error:
            parts.append(f"# {one}\n\nNothing yet: {error}")
    return "\n\n".join(parts)


def publish(names: Sequence[str], out: Path, folder: Path) -> list[Path]:
    """Write FOLDER/NAME.md and NAME.svg from each experiment's summary in OUT. What stands below the line BY_HAND on a
    page that is there already is kept. Raises `RRMError` if there is no summary."""
    pages = []
    for name in names:
        path = out / name / "summary.json"
        if not path.exists():
            raise RRMError(f"{path} does not exist; run `rrm measure {name}` first")
        page = folder / f"{name}.md"
        write_atomically(page, with_own_words(document(json.loads(path.read_text())), page).encode())
        shutil.copyfile(out / name / "figure.svg", folder / f"{name}.svg")
        pages.append(page)
    return pages


def with_own_words(written: str, page: Path) -> str:
    """A page written anew, with what stands below the line BY_HAND on the one that is there."""
    _, mark, own = page.read_text(encoding="utf-8").partition(BY_HAND) if page.exists() else ("", "", "")
    return written + (f"\n{mark}{own}" if mark else "")
