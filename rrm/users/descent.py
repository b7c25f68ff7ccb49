"""A claim too dear to check is followed down: into the answer that makes it, what was said of that answer, and so on.

    outcome  <- claim "f is wrong": checking f costs more attention than is left
      answer that claims it          reading: 1    its own facts: check them, as far as they can be paid for
        answers that speak of those  reading: 1    ... where they are too dear as well
          ...

At each level the user looks at an answer as it looks at an outcome: first at the parts that the assistants below call
wrong, then at the whole fact, and only where both cost too much further down. The truth is looked at through the
meter alone, so all of this comes out of the attention for the outcome, and leaves less for everything else.

The assumptions, in one place (`BoundedUser.descent` says them to whoever sets them):

- An answer *stands* if every fact of it that its claim rests on was settled and is true; it *falls* at the first that
  is false, and if it does not say at all what it is quoted for; where a fact can be neither checked nor followed,
  nothing is known of the answer.
- A claim whose answer stands is right with the chance `stands`, whatever is true: an answer may be right in all that
  can be looked at and still conclude what is wrong. Each further level it stood by multiplies that chance in again.
- A claim whose answer fell is not believed, and is not turned around either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rrm.core.errors import Malformed
from rrm.core.records import Fact, Finding
from rrm.core.task import Task
from rrm.users.claims import Claim, Way, claims_of, rests_on

Standing = dict[tuple[str, bool], float]
"""(who claims, that the matter of a fact holds or not) -> the chance that this is right, by what is below: 0 where the
answer fell. Whoever is not in it was not followed, or to no end."""


@dataclass
class Descent:
    """One outcome's claims followed down, on the attention there is for this outcome.

    task: the outcome's; its assistants' tasks say what their answers' facts are.
    read: pays for reading an answer, if more is left than it costs; says whether it did.
    check: pays for a look at a fact, and says whether its matter holds; None if it costs more than is left.
    """

    task: Task
    levels: int
    stands: float
    read: Callable[[], bool]
    check: Callable[[Fact], bool | None]
    answers: int = 0
    """Answers that were read."""
    stood: int = 0
    """How often one stood."""
    _open: set[int] = field(default_factory=set)
    _followed: set[tuple[int, str]] = field(default_factory=set)

    @cached_property
    def _tasks(self) -> Mapping[str, Task]:
        return {node.path: node for node in self.task.walk()}

    def follow(self, fact: str, claims: Sequence[Claim], levels: int | None = None) -> Standing:
        """What becomes of the claims about a fact that is too dear: accusations first, until one stands."""
        found: Standing = {}
        levels = self.levels if levels is None else levels
        if not levels:
            return found
        for claim in sorted(claims, key=lambda claim: claim.holds):
            way, key = claim.way, (id(claim.way.answer), fact)
            finding = next((f for f in way.answer.findings if f.fact == fact), None)
            if finding is None or key in self._followed or way.by not in self._tasks:
                continue  # it says nothing of it, was followed before, or is not an assistant whose task is known
            self._followed.add(key)
            found |= self._into(self._tasks[way.by], way, finding, levels)
            if any(found.values()):
                break
        return found

    def _into(self, task: Task, way: Way, finding: Finding, levels: int) -> Standing:
        """One level down: whether an answer stands, as far as its finding rests on it."""
        if not self._read(way):
            return {}
        case, outcome = way.answer.case, way.answer.outcome
        try:
            facts = {fact.name: fact for fact in task.facts_of(case, outcome)}
            says = () if task.findings is None else task.findings_of(case, outcome)
        except Malformed:
            return {}
        me = (way.by, finding.holds)
        if not any((one.fact, one.holds) == (finding.fact, finding.holds) for one in says):
            return {me: 0.0}  # whoever reads it sees that it does not say so
        claims = claims_of(way.answer.below)
        found: Standing = {}
        chance = 1.0
        resting = rests_on(finding.fact, facts)
        for fact in sorted(resting, key=lambda fact: (all(c.holds for c in claims.get(fact.name, ())), fact.price)):
            matter, sure, below = self._settle(fact, claims.get(fact.name, ()), levels)
            if fact.name == finding.fact and fact.claims == finding.holds:
                found |= below  # it is about the same matter (rrm.core.records.Fact), so this is evidence above, too
            if matter is None:
                return found
            if matter != fact.claims:
                return found | {me: 0.0}
            chance = min(chance, sure)
        if resting:
            found[me] = self.stands * chance
            self.stood += 1
        return found

    def _read(self, way: Way) -> bool:
        """Whether an answer could be read; it is paid for once."""
        if id(way.answer) not in self._open:
            if not self.read():
                return False
            self._open.add(id(way.answer))
            self.answers += 1
        return True

    def _settle(self, fact: Fact, claims: Sequence[Claim], levels: int) -> tuple[bool | None, float, Standing]:
        """Whether the matter of an answer's fact holds (None: not known), how sure that is, and what it says of those
        who claimed something of it."""
        accused = {c.part for c in claims if not c.holds and c.part is not None and c.part < len(fact.parts)}
        sound = set()
        matter: bool | None = None
        for place in sorted(accused, key=lambda place: (fact.parts[place].price, place)):
            holds = self.check(fact.parts[place])
            if holds is not None and holds != fact.parts[place].claims:
                matter = False  # one part that fails settles the whole
                break
            if holds is not None:
                sound.add(place)
        if matter is None:
            matter = self.check(fact)
        if matter is not None:
            return matter, 1.0, {(c.by, c.holds): self.stands if c.holds == matter else 0.0 for c in claims}
        refuted = {c.by for c in claims if not c.holds and c.part in sound}
        found = self.follow(fact.name, [c for c in claims if c.by not in refuted], levels - 1)
        matter, sure = next(((holds, chance) for (_, holds), chance in found.items() if chance), (None, 0.0))
        return matter, sure, found | {(by, False): 0.0 for by in refuted}
