"""Words by which somebody finds a run again: tags.txt in its folder, one a line, to be edited by hand too.

No part of the run: config.json does not name them, and nothing that trains, resumes or certifies reads them.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock

from rrm.core.clean import visible
from rrm.core.errors import ConfigError
from rrm.store.files import write_atomically

FILE = "tags.txt"
LONGEST = 40
"""Characters of a tag."""
MOST = 50
"""Tags of a run."""
LARGEST = 1 << 16
"""Bytes of the file that are read."""


def tags_of(folder: Path) -> tuple[str, ...]:
    """A run's tags in the order in which they were given, each once; none where the file is not there or not readable.
    What somebody wrote there by hand is cut to `LONGEST` and `MOST`."""
    path = folder / FILE
    if path.is_symlink() or not path.is_file():  # what a stranger's run links to is nobody's tags
        return ()
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST).decode("utf-8-sig", "replace")
    except OSError:
        return ()
    found = (visible(" ".join(line.split()))[:LONGEST].strip() for line in text.split("\n"))
    return tuple(dict.fromkeys(one for one in found if one))[:MOST]


def tag_named(text: str) -> str:
    """A tag as it is kept. Raises `ConfigError` for what is none."""
    tag = " ".join(text.split())
    if not tag or len(tag) > LONGEST or visible(tag) != tag:
        raise ConfigError(f"tag {text[:80]!r}: give a word or a few, at most {LONGEST} characters, such as baseline")
    return tag


def retag(folder: Path, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """A run's tags with some more and some fewer, written if they changed. Raises `ConfigError` for a tag that is none,
    for one to be removed that it has not, and for too many."""
    gone, new = [*map(tag_named, remove)], [*map(tag_named, add)]
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    with FileLock(Path(gettempdir()) / f"rrm-tags-{getpass.getuser()}-{place}.lock"):  # nobody else here meanwhile
        return _changed(folder, gone, new)


def _changed(folder: Path, gone: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    before = tags_of(folder)
    if missing := [tag for tag in gone if tag not in before]:
        raise ConfigError(f"{folder} has no tag {missing[0]!r}; it has: {', '.join(before) or 'none'}")
    after = tuple(dict.fromkeys([*(tag for tag in before if tag not in gone), *new]))
    if len(after) > MOST:
        raise ConfigError(f"{folder} would have {len(after)} tags; a run has at most {MOST}")
    if after != before:
        write_atomically(folder / FILE, "".join(f"{tag}\n" for tag in after).encode())
    return after
