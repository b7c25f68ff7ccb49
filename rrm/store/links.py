"""Rows in the order in which they came, each hashed with all before it, so that what is changed or removed shows.

Every row that is inserted adds a link: a hash of the row (its leaf), and of that and all leaves before it (its
head). Whoever has written the last head down, or the leaves' Merkle root (a certificate does, `rrm.trust`), sees later
whether the rows are those of then, in that order, and which are not; later rows may have come. Whoever has not sees
nothing: who can change the rows can make the links anew. Triggers add the links, so that no way in is forgotten.

A leaf is hashed with a salt of its own. Where a row is rewritten, because a person must be forgotten, a link for what
it is now is added, and the old one's salt is wiped: else whoever knows all of a row but a name could try names.

The tree is that of certificate transparency (RFC 9162, section 2.1).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SCHEMA = """
CREATE TABLE IF NOT EXISTS links (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL, key INTEGER NOT NULL, salt BLOB, leaf BLOB NOT NULL, head BLOB NOT NULL
);
"""
START = bytes(32)
"""The head before the first link."""
SALT = 16
Value = str | float | int | bytes | None


def leaf_of(salt: bytes, table: str, values: Sequence[Value]) -> bytes:
    """A row's hash, 32 bytes."""
    plain = [{"bytes": value.hex()} if isinstance(value, bytes) else value for value in values]
    return hashlib.sha256(salt + json.dumps([table, *plain], separators=(",", ":")).encode()).digest()


def key_of(table: str, values: Sequence[Value]) -> int:
    """What tells a row of a table apart, in 64 bits."""
    plain = [{"bytes": value.hex()} if isinstance(value, bytes) else value for value in values]
    body = json.dumps([table, *plain], separators=(",", ":")).encode()
    return int.from_bytes(hashlib.sha256(body).digest()[:8], "big", signed=True)


def next_head(head: bytes | None, leaf: bytes) -> bytes:
    """The head after one more leaf."""
    return hashlib.sha256((head or START) + leaf).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of leaves in order, 32 bytes (RFC 9162, section 2.1.1)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:  # an odd one is carried up: the same tree as splitting at the largest power of two
        pairs = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def add_functions(db: sqlite3.Connection) -> None:
    """What the triggers of `triggers` call."""
    salts: list[bytes] = []

    def salt() -> bytes:
        if not salts:
            drawn = os.urandom(SALT * 256)
            salts.extend(drawn[i : i + SALT] for i in range(0, len(drawn), SALT))
        return salts.pop()

    db.create_function("link_salt", 0, salt)
    db.create_function("link_key", -1, lambda table, *values: key_of(table, values), deterministic=True)
    db.create_function("link_leaf", -1, lambda given, table, *values: leaf_of(given, table, values), deterministic=True)
    db.create_function("link_head", 2, next_head, deterministic=True)


def triggers(tables: Mapping[str, tuple[str, str]]) -> str:
    """SQL; tables: name -> (all columns, columns of its key), each separated by commas."""
    return "".join(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{verb.lower()}_linked AFTER {verb} ON {table} BEGIN\n"
        f"{_link(table, of(columns), of(key))}END;\n"
        for table, (columns, key) in tables.items()
        for verb, of in (("INSERT", _new), ("UPDATE", _new), ("DELETE", _old))
    )


def _new(columns: str) -> list[str]:
    return [f"NEW.{name.strip()}" for name in columns.split(",")]


def _old(columns: str) -> list[str]:
    return [f"OLD.{name.strip()}" for name in columns.split(",")]


def _link(table: str, row: Sequence[str], key: Sequence[str]) -> str:
    """SQL that adds a link for a row; of one that is deleted only its key is left."""
    values = [f"'{table}'", *(row if row[0].startswith("NEW") else ())]
    return (
        "INSERT INTO links (name, key, salt, leaf, head)\n"
        "WITH drawn (salt) AS MATERIALIZED (SELECT link_salt()),\n"
        f"made (salt, leaf) AS MATERIALIZED (SELECT salt, link_leaf(salt, {', '.join(values)}) FROM drawn)\n"
        f"SELECT '{table}', link_key('{table}', {', '.join(key)}), salt, leaf,"
        " link_head((SELECT head FROM links ORDER BY seq DESC LIMIT 1), leaf) FROM made;\n"
    )


@dataclass(frozen=True)
class Anchor:
    """What a database's links come to."""

    size: int
    root: str
    """The Merkle root of the leaves, in hexadecimal."""
    head: str
    """The last link's head."""


@dataclass(frozen=True)
class Broken:
    """Something that is not as its links say. Equal ones are the same fault."""

    table: str
    what: str
    """In words: which row, and what is wrong with it."""

    def __str__(self) -> str:
        return f"{self.table}: {self.what}"


def chain_of(db: sqlite3.Connection, size: int | None = None) -> Anchor | None:
    """What the first `size` links come to, or all of them; None if there are fewer."""
    query = "SELECT leaf, head FROM links ORDER BY seq" + ("" if size is None else f" LIMIT {int(size)}")
    rows = db.execute(query).fetchall()
    if size is not None and len(rows) < size:
        return None
    leaves = [bytes(leaf) for leaf, _ in rows]
    head = bytes(rows[-1][1]) if rows else START
    return Anchor(len(rows), merkle_root(leaves).hex(), head.hex())


def fill(db: sqlite3.Connection, tables: Mapping[str, tuple[str, str]]) -> None:
    """Link the rows of a database from before there were links, table by table: in which order they came nobody knows
    any more. Does nothing where there are links. Within a transaction."""
    if db.execute("SELECT 1 FROM links LIMIT 1").fetchone():
        return
    head: bytes | None = None
    for table, (columns, keys) in tables.items():
        made = []
        for row in db.execute(f"SELECT {columns}, {keys} FROM {table} ORDER BY {keys}"):
            salt, values = os.urandom(SALT), row[: columns.count(",") + 1]
            leaf = leaf_of(salt, table, values)
            head = next_head(head, leaf)
            made.append((table, key_of(table, row[len(values) :]), salt, leaf, head))
        db.executemany("INSERT INTO links (name, key, salt, leaf, head) VALUES (?, ?, ?, ?, ?)", made)


def wipe(db: sqlite3.Connection) -> None:
    """Wipe the salts of links whose rows were rewritten. Within a transaction."""
    db.execute(
        "WITH again AS (SELECT name, key, MAX(seq) AS last FROM links GROUP BY name, key HAVING COUNT(*) > 1)"
        " UPDATE links SET salt = NULL WHERE salt IS NOT NULL AND seq IN (SELECT l.seq FROM links l JOIN again"
        " ON l.name = again.name AND l.key = again.key WHERE l.seq < again.last)"
    )


def faults(db: sqlite3.Connection, tables: Mapping[str, tuple[str, str]]) -> list[Broken]:
    """Rows that were changed, added or removed without their links, and links that do not follow one another. A table
    that is not there is of later than the database, or all of its rows are missing."""
    found: list[Broken] = []
    latest: dict[tuple[str, int], tuple[int, bytes | None, bytes]] = {}
    head, before = START, 0
    for seq, name, key, salt, leaf, given in db.execute(
        "SELECT seq, name, key, salt, leaf, head FROM links ORDER BY seq"
    ):
        if seq != before + 1:
            found.append(Broken("links", f"{seq - before - 1} are missing before link {seq}"))
        if next_head(head, leaf) != given:
            found.append(Broken("links", f"link {seq} (of {name}) does not follow from the one before it"))
        head, before = given, seq
        latest[name, key] = (seq, salt, leaf)
    there = {table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, (columns, keys) in tables.items():
        for row in db.execute(f"SELECT {columns}, {keys} FROM {table}") if table in there else ():
            n = columns.count(",") + 1
            values, key = row[:n], row[n:]
            link = latest.pop((table, key_of(table, key)), None)
            called = ", ".join(f"{name.strip()} {value!r}" for name, value in zip(keys.split(","), key, strict=True))
            if link is None:
                found.append(Broken(table, f"the row with {called} has no link: it was put in by another program"))
            elif link[1] is None or leaf_of(link[1], table, values) != link[2]:
                found.append(Broken(table, f"the row with {called} is not what it was (link {link[0]})"))
    for (name, _), (seq, salt, leaf) in latest.items():
        if salt is None or leaf != leaf_of(salt, name, ()):  # else it was deleted where rows may be rewritten
            found.append(Broken(name, f"a row is missing that link {seq} speaks of"))
    return found


def rewritten(db: sqlite3.Connection, size: int) -> list[Broken]:
    """Rows of the first `size` links that were rewritten or removed since, as is done when a person is forgotten."""
    rows = db.execute(
        "WITH later AS (SELECT name, key, MAX(seq) AS seq FROM links WHERE seq > ? GROUP BY name, key)"
        " SELECT l.name, MAX(l.seq), later.seq FROM links l JOIN later ON l.name = later.name AND l.key = later.key"
        " WHERE l.seq <= ? GROUP BY l.name, l.key ORDER BY 2",
        (size, size),
    )
    return [Broken(name, f"the row of link {seq} was rewritten (link {now})") for name, seq, now in rows]
