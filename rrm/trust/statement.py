"""What a certificate says: an in-toto Statement whose predicate has the paper's five headings as its chapters.

Leike et al. 2018 (arXiv 1811.07871), section 6, lists what trust in an agent can rest on: design choices, testing,
interpretability, formal verification, theoretical guarantees. A chapter that has nothing says so, and `not_shown` says
what nobody has shown; it cannot be left empty. The schema is `rrm certify --schema`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rrm.core.errors import RRMError
from rrm.core.interrupts import interrupts_held
from rrm.trust.differing import differences, short

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:recursive-reward-modeling:certificate:v"
VERSION: Literal[3] = 3
"""Of what is written. Version 1 named the starting model and its tokenizer by 64 bits only, and version 2 not what lay
in RUN/trust; they are read, and derived again as they were then."""
Version = Literal[1, 2, 3]
TIMES = "testing.audits.*.found.times"
"""How often a part of an audit was done until it was as it is: nobody recorded it, and it is always taken as signed."""
Json = Any
"""Numbers, texts, lists and mappings, as JSON has them."""


class CertificateError(RRMError, ValueError):
    """What was given is no certificate that this rrm can read."""


class Part(BaseModel):
    """A part of a certificate: frozen, and without room for what nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Figure(Part):
    """A share or a mean, with its 95 % interval."""

    value: float
    low: float | None
    """None: no interval, as it takes two cases."""
    high: float | None
    n: int
    """How many values it is the mean of."""
    cases: int
    """In how many cases."""


class NotKnown(Part):
    """A figure that is not there."""

    not_known: str
    """Why."""


UNCOUNTED = "certificates of before version 3 do not tell people who labeled here from those of a file"


Found = Figure | NotKnown


Kind = Literal["simulated", "model", "people", "imported", "other"]
"""Of whoever judged. people: those who labeled here. imported: labels of a file, of whose givers the run knows nothing,
whatever the file calls them; other: a class of the user's own, of which rrm knows nothing."""


def _shaped(entry: Mapping[str, Json]) -> Mapping[str, Json]:
    """An entry as whoever reads it takes it: a name, and what was found, with statements that are mappings if any."""
    found = entry.get("found")
    if not isinstance(entry.get("name"), str) or not isinstance(found, Mapping):
        raise ValueError("an entry has a name, and names what was found")
    statements = found.get("statements", [])
    if not isinstance(statements, list | tuple) or not all(isinstance(one, Mapping) for one in statements):
        raise ValueError(f"the statements of {entry['name']!r} are no list of such")
    return entry


Shaped = Annotated[Mapping[str, Json], AfterValidator(_shaped)]
"""Something that was found, and from what."""


class Judge(Part):
    """Who judged at a node."""

    name: str
    """As in the run; people's names are not in a certificate, see `people`."""
    kind: Kind
    judgements: int
    people: int
    """How many people, if any."""
    alpha: Found
    """Their agreement (Krippendorff 2004)."""


class Given(Part):
    """Judgements by people, as far as the run knows, or as a file says."""

    judgements: int
    people: int
    """How many people, if any."""


class Helper(Part):
    """An assistant, as whoever judged met it."""

    node: str
    versions: tuple[str, ...]
    """Hashes of its weights or code, of all that were met."""
    answers: int
    """Outcomes of judged pairs that it was asked about."""
    silent: Found
    """How often it said nothing of one (N/A)."""
    unreadable: Found
    """How often what it said had no form."""
    false_alarms: Found
    """How often what it called wrong was found right, of what the judge checked of it: chosen by the judge, so no
    sample of all it said."""
    misses: Found
    """How often what it called right was found wrong, likewise."""
    certificate: str | None
    """SHA-256 of its own certificate's payload; None: it has none here."""


class DesignChoices(Part):
    """Chapter 1, design choices: what was trained, how, and who judged with whose help."""

    instruction: str
    aspects: tuple[str, ...] | NotKnown
    unassessed: tuple[str, ...] | NotKnown
    """Aspects that no assistant covers."""
    judges: tuple[Judge, ...]
    assistants: tuple[Helper, ...]
    settings: Mapping[str, Json]
    seed: int
    model: Mapping[str, Json]
    made_with: Mapping[str, Json]
    """Versions, threads, processor, device."""
    by_people: Given | NotKnown = NotKnown(not_known=UNCOUNTED)
    """What people judged here."""
    imported_as_people: Given | NotKnown = NotKnown(not_known=UNCOUNTED)
    """What was imported, and is people's by what the file says."""


class TrueHelper(Part):
    """An assistant, by the truth."""

    node: str
    right_of_holding: Found
    """How often it is right about what holds; what is missing to 1 are false alarms."""
    right_of_failing: Found
    """How often it is right about what does not hold; what is missing to 1 are misses."""


class ByTruth(Part):
    """What truth.db says of what was judged: measured by `rrm measure truth`, which neither judge nor training knew."""

    code: str
    """Digest of the code that told what is true."""
    user: Found
    """How often the judge prefers the truly better, of what was judged: a difference that was not seen counts half."""
    reward_model: Found
    """How often the last reward model does, of the same."""
    held_out: Found
    """How often the last reward model does, of what was held out from its fit."""
    assistants: tuple[TrueHelper, ...]
    unmeasured: int
    """How many comparisons of whole outcomes count nowhere above, as truth.db has not the scores of both outcomes."""


class Testing(Part):
    """Chapter 2, testing: what the judged comparisons say of the reward model and of the agent."""

    judged: int
    tied: Found
    abstained: Found
    held_out: Found
    """How often the last reward model predicts preferences held out from its fit."""
    expected: Found
    """How often it expected to, by its own margins: above `held_out` it is surer than right."""
    brier: Found
    """Mean squared error of its chances on those (Brier 1950); 0.25 is a coin's."""
    agreement: Mapping[str, Found]
    """How often the judge prefers the truly better, with and without assistance, where that was measured."""
    challenges: Mapping[str, Json]
    """The five challenges in figures, by round (`rrm inspect --challenges --json`)."""
    audits: tuple[Shaped, ...] = ()
    by_truth: ByTruth | None = None
    """How often judge, reward model and assistants are right by truth.db; None: that was not beside the run."""


class Chapter(Part):
    """One of the other three: what was shown, and where nothing was, why."""

    found: tuple[Shaped, ...] = ()
    empty: str = ""
    """Why there is nothing; empty if there is something."""


Lies = Literal["there", "replaced", "gone", "altered", "not noted"]
"""there: as run.db notes it. replaced: it notes a later one of that name. gone, altered: no file, or another, is where
it notes one. not noted: a file of which it says nothing, put there by an older rrm or by hand."""


class Shelved(Part):
    """Something that was computed of the node and put into RUN/trust, whether or not a chapter has it."""

    chapter: str
    name: str
    sha256: str
    """Of its file."""
    lies: Lies
    """When it was certified."""


class Scope(Part):
    """Of what cases any of this speaks."""

    cases: int
    """Different ones that were judged."""
    first: tuple[str, ...]
    """Hashes of the first that the tree's supply gives, which tell one supply from another."""
    shift: Found
    """Accuracy on cases of another kind."""


class Evidence(Part):
    """The rows of run.db that this rests on: all of the first `size`, in their order (`rrm.store.links`)."""

    size: int
    root: str
    head: str


class Child(Part):
    """The certificate of a node below."""

    node: str
    sha256: str


class Predicate(Part):
    """A certificate of a node."""

    version: Version
    rrm: str
    made: str
    """When, by the clock of whoever made it (ISO 8601)."""
    node: str
    evidence: Evidence
    files: Mapping[str, str]
    """Path in the run's folder -> SHA-256."""
    databases: Mapping[str, Mapping[str, tuple[int, str]]]
    """Other databases -> table -> how many rows, and their SHA-256."""
    design: DesignChoices
    testing: Testing
    interpretability: Chapter
    formal_verification: Chapter
    guarantees: Chapter
    scope: Scope
    children: tuple[Child, ...]
    not_shown: Annotated[tuple[str, ...], Field(min_length=1)]
    shelf: tuple[Shelved, ...] | None = None
    """All that was ever put into RUN/trust of the node, as run.db notes it, and what lies there besides; None: of
    before version 3, which does not say."""

    @model_validator(mode="after")
    def _with_a_shelf(self) -> Predicate:
        if (self.shelf is None) == (self.version > 2):
            raise ValueError(f"shelf is {'missing' if self.shelf is None else 'no part of that version'}")
        return self


@interrupts_held()  # pydantic would take Ctrl-C for its own
def payload_of(subjects: Mapping[str, Mapping[str, str]], predicate: Predicate) -> bytes:
    """The statement as it is signed: JSON with sorted keys. subjects: name -> algorithm -> digest."""
    statement = {
        "_type": STATEMENT, "predicateType": f"{PREDICATE}{predicate.version}",
        "subject": [{"name": name, "digest": dict(digest)} for name, digest in subjects.items()],
        "predicate": predicate.model_dump(mode="json"),
    }  # fmt: skip
    return json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def read_payload(payload: bytes) -> tuple[dict[str, dict[str, str]], Predicate]:
    """Subjects and predicate. Raises `CertificateError` for anything else, a newer version among it, and for what is
    not written as it is read: a number as a text, a truth value or a whole one in the place of another number."""
    try:
        statement = json.loads(payload, object_pairs_hook=once, parse_float=_finite, parse_constant=_finite)
        kind, made_for = statement["_type"], statement["predicateType"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CertificateError(f"the payload is no in-toto statement ({type(error).__name__}: {error})") from error
    if kind != STATEMENT or not str(made_for).startswith(PREDICATE):
        raise CertificateError(f"it is a statement of another kind ({kind!s:.80}, {made_for!s:.80}), no certificate")
    version = str(made_for)[len(PREDICATE) :]
    if version not in map(str, range(1, VERSION + 1)):
        raise CertificateError(
            f"it is a certificate of version {version:.20}, and this rrm reads those up to {VERSION}: use the rrm that "
            "made it, or a later one"
        )
    if extra := {*statement} - {"_type", "predicateType", "subject", "predicate"}:
        raise CertificateError(
            f"it has fields that no certificate of version {version} has: {', '.join(sorted(extra))}"
        )
    try:
        subjects = _subjects(statement["subject"])
        predicate = Predicate.model_validate(statement["predicate"])
        if repr(predicate.version) != version:
            raise CertificateError("it is of another version than it says")
        as_read = predicate.model_dump(mode="json", exclude_unset=True)
        for where, given, told in differences(statement["predicate"], as_read):
            raise CertificateError(f"{where} is written as {short(given)}, and read as {short(told)}")
        return subjects, predicate
    except CertificateError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CertificateError(f"it is no certificate of version {version}: {where}: {first['msg']}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CertificateError(f"its subjects or its predicate cannot be read ({what})") from error


def _subjects(given: Json) -> dict[str, dict[str, str]]:
    """Name -> algorithm -> digest. Raises what a damaged list of them raises."""
    found: dict[str, dict[str, str]] = {}
    for one in given:
        name, digests = one["name"], one["digest"]
        if extra := {*one} - {"name", "digest"}:
            raise CertificateError(f"a subject has other fields than name and digest: {', '.join(sorted(extra)):.80}")
        if not all(isinstance(text, str) for text in (name, *digests, *digests.values())):
            raise TypeError("names and digests are texts")
        if name in found:
            raise CertificateError("it has two subjects of one name")
        found[name] = dict(digests)
    return found


def _finite(text: str) -> float:
    """A number of JSON; Python reads more: NaN, Infinity, and what is as large."""
    if not math.isfinite(found := float(text)):
        raise ValueError(f"{text:.20} is no number")
    return found


def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """A JSON object in which no key stands twice: readers differ in which they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in it")
    return found


def digest_of(payload: bytes) -> str:
    """SHA-256 of a payload, by which a parent's certificate names it."""
    return hashlib.sha256(payload).hexdigest()
