"""Runs harper for `grammar.py`, as a script of its own (see `worker.py`)."""

import sys
from pathlib import Path

import harper

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve

linters = {}


def lint(asked: dict) -> dict:
    """{"text", "dialect"} -> {"lints": a [kind, first character, the one after the last, words, message] each}."""
    dialect = asked["dialect"]
    if dialect not in linters:
        linters[dialect] = harper.Linter(harper.Dialect[dialect])
    found = linters[dialect].lint(asked["text"], language="plaintext")
    return {"lints": [[x.lint_kind, x.span.start, x.span.end, x.problem_text, x.message] for x in found]}


if __name__ == "__main__":
    linters["AMERICAN"] = harper.Linter(harper.Dialect.AMERICAN)
    serve(lint)
