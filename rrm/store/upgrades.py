"""What takes a database of an older version to the present one, a script a step; see `Database`.

The number of scripts is the present version. A later change appends one, and nothing that stands here changes again.
"""

RUN: tuple[str, ...] = (
    "",
    "ALTER TABLE comparisons ADD COLUMN purpose TEXT NOT NULL DEFAULT '';",
    "ALTER TABLE comparisons ADD COLUMN again INTEGER NOT NULL DEFAULT 0;",
    "",
    "",
    "",
    "",
)
"""run.db. To 1, from files without a version: the table `samples` is new. To 2: what a comparison
is for, which older ones do not say. To 3: how many times its pair was asked about before. To 4: the table `remarks` is
new. To 5: the table `links`, which `rrm.store.links.fill` fills. To 6: a check among `comparisons.checks` may say with
which chance it was drawn (`spot`), and of which fact of which outcome it is (`side`, `fact`, `part`), which older ones
do not; their rows stay as they are, and so do their links. To 7: the table `computed` is
new; what lay in RUN/trust before is noted nowhere."""
LABELS: tuple[str, ...] = (
    "",
    "ALTER TABLE questions ADD COLUMN ask TEXT NOT NULL DEFAULT '';\n"
    "ALTER TABLE labels ADD COLUMN remarks TEXT NOT NULL DEFAULT '';",
    "",
)
"""labels.db. To 1: versions are new. To 2: what is asked of each outcome, and what was said of it, of which older ones
have nothing. To 3: the tables of gold questions and repeats (`rrm.labels.controls`) are new."""
CALLS: tuple[str, ...] = ("",)
"""calls.db. To 1: versions are new."""
TRUTHS: tuple[str, ...] = ("",)
"""truth.db. It began with versions."""
