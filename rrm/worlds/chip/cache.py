"""A set-associative cache, simulated access by access, and an attacker on it.

Sources: Hennessy and Patterson, *Computer Architecture*, appendix B (caches); Osvik, Shamir and Tromer 2006 (prime
and probe); Qureshi 2018 (CEASER: an index that is encrypted, with a key that changes).
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rrm.worlds.chip.spec import Phase, Program

POLICIES = ("lru", "fifo", "random")
ISOLATIONS = ("shared", "partitioned", "hashed")
ACCESSES = 512
"""Accesses of one phase."""
REKEY = 128
"""Accesses after which a hashed index gets a new key; what is cached is then lost."""
TRIALS = 48
"""Probes of an attack for each value of the secret bit."""
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Cache:
    """A cache as it is built and run.

    kilobytes, line (bytes), ways: its geometry. policy: which line of a full set makes room. isolation: `shared`, all
    use all; `partitioned`, two domains have half of the ways each; `hashed`, the set of an address depends on a key
    that changes. volts, ghz: supply and clock.
    """

    kilobytes: int
    line: int
    ways: int
    policy: str
    isolation: str
    volts: float
    ghz: float

    @property
    def sets(self) -> int:
        """How many sets: its capacity over the bytes of one set."""
        return self.kilobytes * 1024 // (self.line * self.ways)

    @property
    def ways_of_a_domain(self) -> int:
        """Ways of a set that one domain may fill: half of them if the cache is partitioned, else all."""
        return self.ways // 2 if self.isolation == "partitioned" else self.ways


class Ways:
    """The content of a set-associative cache: for each set its line numbers, the next to go first.

    `key` None: a line's set is its number modulo the sets; otherwise a hash of number and key.
    """

    def __init__(self, sets: int, ways: int, policy: str, rng: random.Random, key: int | None = None) -> None:
        self.sets, self.ways, self.policy, self.rng, self.key = sets, ways, policy, rng, key
        self.content: defaultdict[int, list[int]] = defaultdict(list)  # most sets of a large cache are never touched

    def access(self, line: int) -> bool:
        """Whether line number `line` hits; afterwards it is cached."""
        lines = self.content[self.place(line)]
        if line in lines:
            if self.policy == "lru":
                lines.remove(line)
                lines.append(line)
            return True
        if len(lines) >= self.ways:
            lines.pop(self.rng.randrange(self.ways) if self.policy == "random" else 0)
        lines.append(line)
        return False

    def place(self, line: int) -> int:
        """The set of a line."""
        return (line if self.key is None else mix(line ^ self.key)) % self.sets


def mix(x: int) -> int:
    """A 64-bit mixing function (the finalizer of SplitMix64: Steele, Lea and Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


# --- the benchmark -----------------------------------------------------------------------------------


@lru_cache(4096)
def trace(phase: Phase, place: int, seed: int, accesses: int = ACCESSES) -> tuple[int, ...]:
    """Byte addresses of a phase, the `place`-th of its program: every phase has memory of its own."""
    rng = random.Random(f"trace {phase} {place} {seed}")
    base, size = (place + 1) << 24, phase.kilobytes * 1024
    if phase.pattern == "walk":
        return tuple(base + i * phase.step % size for i in range(accesses))
    anywhere = rng.choices(range(base, base + size, 4), k=accesses)
    if phase.pattern == "scatter":
        return tuple(anywhere)
    hot = rng.choices(range(base, base + phase.step * 1024, 4), k=accesses)
    return tuple(h if rng.random() < 0.9 else a for h, a in zip(hot, anywhere, strict=True))


def hits(cache: Cache, program: Program, seed: int, accesses: int = ACCESSES) -> tuple[float, ...]:
    """Percent of the accesses that hit, phase by phase. One program runs alone, in one domain, from an empty cache."""
    traces = [trace(phase, place, seed, accesses) for place, phase in enumerate(program)]
    return tuple(100 * sum(found) / len(found) for found in run(cache, traces, seed))


def run(cache: Cache, traces: Iterable[Sequence[int]], seed: int) -> list[list[bool]]:
    """For each access of each phase whether it hits. A hashed index gets a new key every `REKEY` accesses."""
    rng = random.Random(f"run {seed}")
    hashed = cache.isolation == "hashed"
    content = Ways(cache.sets, cache.ways_of_a_domain, cache.policy, rng)
    found: list[list[bool]] = []
    for addresses in traces:
        row: list[bool] = []
        for i, address in enumerate(addresses):
            if hashed and i % REKEY == 0:
                content = Ways(cache.sets, cache.ways, cache.policy, rng, rng.getrandbits(64))
            row.append(content.access(address // cache.line))
        found.append(row)
    return found


# --- the attack --------------------------------------------------------------------------------------


def attack(cache: Cache, noise: int, seed: int, trials: int = TRIALS) -> float:
    """Bits that one prime and probe tells the attacker of a secret bit: 0 to 1, measured.

    The victim reads one of two table lines, as the secret bit says, and `noise` lines at random. The attacker fills
    the two lines' sets before and reads its own lines again after; it sees in which set more of them miss. Plug-in
    mutual information over `trials` probes for each value of the bit; chance alone gives some 0.01 bits.

    A hashed index gets a new key before each probe, so that the attacker cannot learn which of its lines to use. How
    much it would learn with slower keys is not modeled.
    """
    rng = random.Random(f"attack {seed} {noise}")
    joint: Counter[tuple[int, int]] = Counter()
    for _ in range(trials):
        chance = rng.getrandbits(32)
        joint.update((secret, probe(cache, secret, noise, chance)) for secret in (0, 1))
    return information(joint)


def probe(cache: Cache, secret: int, noise: int, chance: int) -> int:
    """What the attacker sees of one secret bit: 1 if more of its lines miss in the first set, -1 if in the second, 0
    if as many. `chance` decides everything random, whatever the secret is."""
    rng = random.Random(chance)
    key = rng.getrandbits(64) if cache.isolation == "hashed" else None
    victim = Ways(cache.sets, cache.ways_of_a_domain, cache.policy, random.Random(chance), key)
    attacker = victim
    if cache.isolation == "partitioned":
        attacker = Ways(cache.sets, cache.ways_of_a_domain, cache.policy, random.Random(chance), key)
    table = (0, cache.sets // 2)  # line numbers; with an index by modulo, their sets too
    own = [[(1 << 20) * cache.sets * (2 * way + 2 + i) + table[i] for way in range(cache.ways)] for i in (0, 1)]
    for way in range(cache.ways):  # what was there before
        for line in table:
            victim.access(line + cache.sets * (way + 1))
    for line in (*own[0], *own[1]) * 2:
        attacker.access(line)
    reads = [table[secret], *rng.choices(range(2 * cache.sets * cache.ways), k=noise)]
    rng.shuffle(reads)
    for line in reads:
        victim.access(line)
    missed = [sum(not attacker.access(line) for line in reversed(lines)) for lines in own]
    return (missed[0] > missed[1]) - (missed[0] < missed[1])


def information(joint: Counter[tuple[int, int]]) -> float:
    """Mutual information, in bits, of the two components of counted pairs."""
    total = joint.total()
    first, second = Counter[int](), Counter[int]()
    for (a, b), count in joint.items():
        first[a] += count
        second[b] += count
    bits = sum(n / total * math.log2(n * total / (first[a] * second[b])) for (a, b), n in joint.items())
    return max(0.0, bits)
