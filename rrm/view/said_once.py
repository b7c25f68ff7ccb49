"""What an assistant said, without what stands beside it already: its name, its verdict, and a detail said twice."""

from __future__ import annotations

from rrm.core.errors import Malformed
from rrm.core.verdicts import one_line, parse


def once(name: str, text: str) -> str:
    """The text of an answer of the assistant `name`, for beside that name and the answer's verdict.

    Of verdicts in lines (`rrm.core.verdicts.write`, as all tools say them) the notes are left; with the names of what
    they are of, unless there is one that is called as the assistant is. Details that say what a note says are left out.
    Any other text stays as it is.
    """
    head, _, details = text.partition("\n\n")
    try:
        found = parse(head)
    except Malformed:
        return text
    if not found or len(found) < len(head.splitlines()):
        return text  # N/A among them
    if len(found) == 1 and found[0].fact == name:
        lines = [found[0].note]
    else:
        lines = [f"{one.fact}: {'yes' if one.holds else 'no'} {one.note}".rstrip() for one in found]
    if one_line(details) not in {one.note for one in found}:
        lines.append(details)
    return "\n".join(line for line in lines if line)
