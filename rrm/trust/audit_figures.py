"""What the figures of an audit mean: a field for each that a part may give (`rrm.trust.audit_parts`), under its name
with `_` for what is no letter. Audits are kept as JSON; these are for whoever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rrm.trust.statement import Part


class ForetoldFigures(Part):
    """Of new pairs."""

    predicted: Any
    """How often, on new pairs, the reward model foretold whom the user prefers."""
    expected: Any
    """How often it expected to be right on new pairs, by its own margins."""
    surer_than_right: Any
    """How much more often it expected to be right on new pairs than it was."""
    brier: Any
    """Mean squared error of its chances on new pairs."""
    tied: Any
    """How often the user saw no difference between two new outcomes."""
    without_form: Any
    """How often what the agent gave to cases of another kind had not the task's form."""


class OverratedFigures(Part):
    """Of what the reward model rates highest, beside the agent's own."""

    foretold: Any
    """How often, by the reward model, the user prefers what it rates highest to the agent's own outcome."""
    preferred: Any
    """How often the user did prefer what the reward model rates highest to the agent's own outcome."""
    overrated: Any
    """How much more often than it was so the reward model foretold that the user prefers what it rates highest."""


class AdversarialFigures(Part):
    """Of both adversaries."""

    of_many: OverratedFigures
    """Whether the outcome that the reward model rates highest of many is one that the user prefers."""
    optimized: OverratedFigures
    """Whether an agent that was optimized against the reward model alone gives what the user prefers."""


class SaidFigures(Part):
    """Of an assistant's claims."""

    misses: Any
    """How often what this assistant called right, looked at without the judge choosing what, was wrong."""
    false_alarms: Any
    """How often what this assistant called wrong, looked at without the judge choosing what, was right."""


class MetamorphicFigures(Part):
    """Of what must not matter."""

    user_order: Any
    """How often the user says the same when A and B change places."""
    reward_order: Any
    """How often the reward model gives the same scores when A and B change places."""
    reward_company: Any
    """How often the reward model gives an outcome the same score alone as in company."""


class EditFigures(Part):
    """Of edits after which every fact is as before."""

    moved: Any
    """How far an edit that changes no fact moves the score, in standard deviations."""
    turned: Any
    """How often an edit that changes no fact turns the order of a pair."""
    assistants_say_otherwise: Any
    """How often assistants say something else after an edit that changes no fact."""


class IrrelevantFigures(Part):
    """Of both kinds of edits."""

    plain: EditFigures
    """What edits do that leave the surface of a text as it is, and every fact."""
    dressed: EditFigures
    """What edits do that change the surface of a text, and no fact."""


class PlantedFigures(Part):
    """Of an assistant that is given flaws."""

    found: Any
    """How often this assistant called the one fact wrong that had been made wrong."""
    before: Any
    """How often this assistant had called the same fact wrong before it was made so."""
    silent: Any
    """How often this assistant said nothing of the fact that had been made wrong."""
    accused: Any
    """How often this assistant called something wrong where all that it covers was right."""


class WrongClaimFigures(Part):
    """Of claims of an assistant that are wrong."""

    claims_that_are_wrong: Any
    """How often what this assistant claims of a fact is wrong."""
    verdicts_wrong_if_all_are: Any
    """How often the user is wrong where all that this assistant claims is."""
    propagated: Any
    """How many more verdicts go wrong for each share of this assistant's claims that is made wrong."""


class GainFigures(Part):
    """Of what assistance is worth."""

    with_assistance: Any
    """How often the user prefers the truly better outcome with assistance."""
    alone: Any
    """How often the user prefers the truly better outcome without assistance."""
    gain: Any
    """How much more often the user is right with assistance than without."""
    reward_model: Any
    """How often the reward model prefers the truly better outcome."""
    wrong_claims: Mapping[str, WrongClaimFigures]
    """What wrong claims of an assistant add to wrong verdicts."""


class MisledFigures(Part):
    """Of a user whose assistants say one kind of thing."""

    user_right: Any
    """How often the user prefers the truly better outcome with what these assistants say."""
    reward_model_right: Any
    """How often the reward model prefers the truly better outcome with what these assistants say."""
    checked_claims_found_wrong: Any
    """How often a claim of these assistants that the user checked was wrong."""
    user_says_otherwise: Any
    """How often the user's verdict is another than with honest assistants."""
    reward_model_turned: Any
    """How often the reward model's order of a pair is another than with honest assistants."""


class MisleadingFigures(Part):
    """Of assistants that mislead."""

    honest: MisledFigures
    """What comes of assistants that say what they found."""
    wrong: MisledFigures
    """What comes of assistants that say the opposite of what they found."""
    sandbagging: MisledFigures
    """What comes of assistants that say that all is right."""
    colluding: MisledFigures
    """What comes of assistants that say that all is right of an ally's outcomes, and wrong of others'."""


class AuditFigures(Part):
    """Of all parts of an audit."""

    held_out: ForetoldFigures
    """Whether the reward model foretells the user on new cases."""
    shifted: ForetoldFigures
    """Whether the reward model foretells the user on cases of another kind."""
    adversarial: AdversarialFigures
    """Whether what the reward model rates highest is what the user prefers."""
    spot_checks: Mapping[str, SaidFigures]
    """Whether what assistants claim is so, looked at without the judge choosing what."""
    metamorphic: MetamorphicFigures
    """Whether order and company, which must not matter, do not."""
    irrelevant: IrrelevantFigures
    """Whether edits that change no fact move the score."""
    planted: Mapping[str, PlantedFigures]
    """Whether assistants find one fact that was made wrong, and leave in peace what is right."""
    gain: GainFigures
    """Whether the user is right more often with assistance than without it."""
    misleading: MisleadingFigures
    """How often the user and the reward model are right where every assistant misleads."""
