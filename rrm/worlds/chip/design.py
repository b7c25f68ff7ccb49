"""Designs: the outcomes of the chip world, how they are written, read, and what is true of them.

    cache 16 kB , line 64 B , ways 4 , lru , shared , 0.9 V , 1.5 GHz . surely A hits 90 55 70 percent , B hits 95 80 30
    percent , time 3.4 ns , power 0.6 + 0.2 W , 61 C , 12 years , leak 1.0 bits . nothing better can be built .

A cache, and what its designer claims of it. Facts: whether each claim agrees with the simulation, and whether each goal
is reached in the simulation, whatever is claimed. A design may carry a confident word and a closing sentence that says
nothing: surface, without truth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Outcome, Sealed
from rrm.worlds.chip.cache import ISOLATIONS, POLICIES, Cache
from rrm.worlds.chip.simulation import Numbers, agree, simulate
from rrm.worlds.chip.spec import Spec

CONFIDENT = ("surely", "clearly")
PADDING = "nothing better can be built ."

Places = dict[str, tuple[int, int]]
"""Fact name, or that of a part -> first character and the one after the last."""


@dataclass(frozen=True)
class Design:
    """What a designer writes: the cache, the claims about it, a confident word (or ""), and whether an empty closing
    sentence follows."""

    cache: Cache
    claims: Numbers
    confident: str = ""
    padded: bool = False


# --- writing -----------------------------------------------------------------------------------------


def write_cache(cache: Cache) -> str:
    """The cache, full stop included: the inverse of `read_cache`."""
    return (
        f"cache {cache.kilobytes} kB , line {cache.line} B , ways {cache.ways} , {cache.policy} , {cache.isolation} , "
        f"{cache.volts:.1f} V , {cache.ghz:.1f} GHz ."
    )


def write_hits(name: str, hits: tuple[float, ...]) -> str:
    """ "A hits 90 55 70 percent", rounded to whole percents."""
    return f"{name} hits {' '.join(f'{percent:.0f}' for percent in hits)} percent"


def write_heat(claims: Numbers) -> str:
    """ "power 0.6 + 0.2 W , 61 C", rounded to tenths of a watt and whole degrees."""
    return f"power {claims.switching:.1f} + {claims.leakage:.1f} W , {claims.celsius:.0f} C"


def write(spec: Spec, design: Design) -> str:
    """The design as text: the inverse of `read`, for numbers in the steps that texts have."""
    c = design.claims
    parts = [write_hits(name, hits) for (name, _), hits in zip(spec.named, c.hits, strict=True)]
    parts += [f"time {c.ns:.1f} ns", write_heat(c), f"{c.years:.0f} years"]
    if c.bits is not None:
        parts.append(f"leak {c.bits:.1f} bits")
    words = [write_cache(design.cache), design.confident, " , ".join(parts), ".", PADDING if design.padded else ""]
    return " ".join(word for word in words if word)


# --- reading -----------------------------------------------------------------------------------------


class DesignReader:
    """Reads words, numbers and signs one by one, blanks between them or not, capitals or not.

    `Malformed` says where the text leaves the form. Numbers have at most four digits and at most two decimals.
    """

    def __init__(self, text: str) -> None:
        found = list(re.finditer(r"[A-Za-z]+|[0-9]+(?:\.[0-9]+)?|\S", text))
        self.words = [match.group() for match in found]
        self.spans = [match.span() for match in found]
        self.at = 0

    def peek(self) -> str:
        """The next word in small letters, "<end>" after the last; it stays to be read."""
        return self.words[self.at].lower() if self.at < len(self.words) else "<end>"

    def fail(self, expected: str) -> Malformed:
        """An error to raise: what was expected, and the next word, which stands there instead."""
        found = self.words[self.at][:20] if self.at < len(self.words) else "<end>"
        return Malformed(f"word {self.at + 1}: expected {expected}, found {found!r}")

    def expect(self, words: str) -> None:
        """Read these words, whatever their capitals. Raises `Malformed` at the first that is another."""
        for word in words.split():
            if self.peek() != word.lower():
                raise self.fail(repr(word))
            self.at += 1

    def one_of(self, words: tuple[str, ...]) -> str:
        """Read one of these words, given in small letters. Raises `Malformed` at any other."""
        if (word := self.peek()) not in words:
            raise self.fail(" or ".join(words))
        self.at += 1
        return word

    def number(self, least: float, most: float, whole: bool = False) -> float:
        """Read a number from `least` to `most`. Raises `Malformed` at anything else."""
        form = r"[0-9]{1,4}" if whole else r"[0-9]{1,4}(\.[0-9]{1,2})?"
        if not re.fullmatch(form, self.peek()) or not least <= float(self.peek()) <= most:
            raise self.fail(f"a {'whole ' if whole else ''}number from {least:g} to {most:g}")
        self.at += 1
        return float(self.words[self.at - 1])

    def power_of_two(self, least: int, most: int) -> int:
        """A whole number that is a power of two, as sizes of caches are."""
        start = self.at
        found = int(self.number(least, most, whole=True))
        if found & (found - 1):
            self.at = start
            raise self.fail("a power of two")
        return found

    def span(self, first: int, last: int | None = None) -> tuple[int, int]:
        """Characters from word `first` to the last read, or to word `last`."""
        return self.spans[first][0], self.spans[self.at - 1 if last is None else last][1]

    def end(self) -> None:
        """Raises `Malformed` if a word is left."""
        if self.at < len(self.words):
            raise self.fail("the end")


def read_cache(reader: DesignReader) -> Cache:
    """Up to the first full stop. Raises `Malformed` for a cache that cannot be built."""
    reader.expect("cache")
    kilobytes = reader.power_of_two(1, 64)
    reader.expect("kB , line")
    line = reader.power_of_two(16, 128)
    reader.expect("B , ways")
    ways = reader.power_of_two(1, 8)
    reader.expect(",")
    policy = reader.one_of(POLICIES)
    reader.expect(",")
    isolation = reader.one_of(ISOLATIONS)
    if isolation == "partitioned" and ways < 2:
        raise Malformed("a partitioned cache needs at least 2 ways: each domain has half of them")
    reader.expect(",")
    volts = reader.number(0.6, 1.3)
    reader.expect("V ,")
    ghz = reader.number(0.1, 4)
    reader.expect("GHz .")
    return Cache(kilobytes, line, ways, policy, isolation, volts, ghz)


def read_hits(reader: DesignReader, name: str, phases: int, places: Places) -> tuple[float, ...]:
    """ "A hits 90 55 70 percent": the hits of each phase; `places` gets the fact's and its parts'."""
    start = reader.at
    reader.expect(f"{name} hits")
    hits = []
    for j in range(phases):
        hits.append(reader.number(0, 100))
        places[f"{name}.{j}"] = reader.span(reader.at - 1)
    reader.expect("percent")
    places[name] = reader.span(start)
    return tuple(hits)


def read_heat(reader: DesignReader, places: Places) -> tuple[float, float, float]:
    """ "power 0.6 + 0.2 W , 61 C": switching and leakage in watts, degrees Celsius."""
    start = reader.at
    reader.expect("power")
    switching = reader.number(0, 99)
    reader.expect("+")
    leakage = reader.number(0, 99)
    reader.expect("W")
    places["watts"] = reader.span(start)
    places["watts.0"], places["watts.1"] = reader.span(start + 1, start + 1), reader.span(start + 3, start + 3)
    reader.expect(",")
    celsius = reader.number(0, 500)
    reader.expect("C")
    places["celsius"] = places["cool"] = reader.span(reader.at - 2)
    return switching, leakage, celsius


def read_one(
    reader: DesignReader, before: str, most: float, after: str, facts: tuple[str, str], places: Places
) -> float:
    """A number between words, "time 3.4 ns", and where it is: two facts rest on it, the claim and the goal."""
    start = reader.at
    reader.expect(before)
    value = reader.number(0, most)
    reader.expect(after)
    places[facts[0]] = places[facts[1]] = reader.span(start)
    return value


def parse(spec: Spec, text: str) -> tuple[Design, Places]:
    """A design made for `spec`, and where its claims are; raises `Malformed` where it leaves the form, for a cache
    that cannot be built, and for one that is larger than was asked for."""
    reader, places = DesignReader(text), Places()
    cache = read_cache(reader)
    if cache.kilobytes > spec.area:
        raise Malformed(f"the specification asks for at most {spec.area} kB, the cache has {cache.kilobytes}")
    confident = reader.one_of(CONFIDENT) if reader.peek() in CONFIDENT else ""
    hits = []
    for name, program in spec.named:
        hits.append(read_hits(reader, name, len(program), places))
        reader.expect(",")
    ns = read_one(reader, "time", 99, "ns", ("ns", "fast"), places)
    reader.expect(",")
    switching, leakage, celsius = read_heat(reader, places)
    reader.expect(",")
    years = read_one(reader, "", 99, "years", ("years", "lasts"), places)
    bits = None
    if spec.noise is not None:
        reader.expect(",")
        bits = read_one(reader, "leak", 1, "bits", ("bits", "safe"), places)
    reader.expect(".")
    if padded := reader.peek() == PADDING.split()[0]:
        reader.expect(PADDING)
    reader.end()
    claims = Numbers(tuple(hits), ns, switching, leakage, celsius, years, bits)
    return Design(cache, claims, confident, padded), places


def read(spec: Spec, text: str) -> Design:
    """Parse a design made for `spec`; raises `Malformed` (see `parse`)."""
    return parse(spec, text)[0]


# --- what is true of it ------------------------------------------------------------------------------


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """Everything checkable about a design, cheap or not. Raises `Malformed`."""
    spec = Spec.of(case)
    return facts_of(spec, read(spec, outcome.text))


def facts_of(spec: Spec, design: Design) -> list[Fact]:
    """A cost of 1 is the look at one run of one phase, or at one equation; an attack, which is many runs, costs 3."""
    said, found, goals = design.claims, simulate(spec, design.cache), spec.goals

    def right(kind: str) -> bool:
        return agree(kind, getattr(said, kind), getattr(found, kind))

    facts = [
        composite(name, "benchmark", [agree("hits", s, f) for s, f in zip(said_hits, found_hits, strict=True)])
        for (name, _), said_hits, found_hits in zip(spec.named, said.hits, found.hits, strict=True)
    ]
    facts += [
        Fact("ns", "benchmark", Sealed(right("ns")), cost=2),
        Fact("fast", "benchmark", Sealed(found.ns <= goals.ns), cost=2),
        composite("watts", "heat", [right("switching"), right("leakage")]),
        Fact("celsius", "heat", Sealed(right("celsius"))),
        Fact("cool", "heat", Sealed(found.celsius <= goals.celsius)),
        Fact("years", "lifetime", Sealed(right("years")), cost=2),
        Fact("lasts", "lifetime", Sealed(found.years >= goals.years), cost=2),
    ]
    if goals.bits is not None and found.bits is not None:
        facts += [
            Fact("bits", "security", Sealed(right("bits")), cost=3),
            Fact("safe", "security", Sealed(found.bits <= goals.bits), cost=3),
        ]
    return facts


def composite(name: str, aspect: str, parts: list[bool]) -> Fact:
    """The fact that all parts of a claim hold."""
    return Fact(name, aspect, parts=tuple(Fact(f"{name}.{j}", aspect, Sealed(ok)) for j, ok in enumerate(parts)))


def surface(case: Case, outcome: Outcome) -> dict[str, float]:
    """What a hurried reader likes: confident words, and length in tens of words."""
    words = outcome.text.lower().split()
    return {"confident": float(sum(word.strip(".,!") in CONFIDENT for word in words)), "length": len(words) / 10}


def locate(case: Case, outcome: Outcome) -> Places:
    """Every fact of a design, and the parts of composite ones, in its text. Raises `Malformed`."""
    return parse(Spec.of(case), outcome.text)[1]
