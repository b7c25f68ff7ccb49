"""rrm: recursive reward modeling (Leike et al. 2018, arXiv 1811.07871)."""

from typing import TYPE_CHECKING

from rrm.core.errors import Abstain, Malformed, RRMError, TaskError, ToolMissing
from rrm.core.judgements import Comparison, Event, FitReport, ImproveReport, Judgement, Pair
from rrm.core.late import imported_late
from rrm.core.parties import Maker, User
from rrm.core.protocols import Agent, Cases, Learner, Policy, RewardModel, Scores
from rrm.core.records import Answer, Assistance, Case, Fact, Finding, Group, Outcome, Sealed
from rrm.core.remarks import Remark, Remarked
from rrm.core.settings import Settings
from rrm.core.sizes import sized
from rrm.core.task import Assistant, Pool, Task, climb
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report, Tool
from rrm.core.validation import check, faults
from rrm.core.version import VERSION as __version__
from rrm.loop.training import train
from rrm.users.bounded import BoundedUser

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone
    from rrm.users.endpoint import EndpointUser
    from rrm.users.human import HumanUser
    from rrm.users.model import ModelUser

__all__ = [
    "Abstain", "Agent", "Answer", "Assistance", "Assistant", "Backbone", "BoundedUser", "Case", "Cases",
    "Comparison", "EndpointUser", "Event", "Fact", "Finding", "FitReport", "Group", "HumanUser", "ImproveReport",
    "Judgement", "Learner", "Maker", "Malformed", "ModelUser", "Outcome", "Pair", "Policy", "Pool", "RRMError",
    "Remark", "Remarked", "Report", "RewardModel", "Scores", "Sealed", "Settings", "Task", "TaskError", "Tool",
    "ToolMissing", "User", "__version__", "check", "climb", "faults", "sized", "tool_assistant", "train",
]  # fmt: skip

_LATE = {
    "Backbone": "rrm.models.backbone",
    "EndpointUser": "rrm.users.endpoint",
    "HumanUser": "rrm.users.human",
    "ModelUser": "rrm.users.model",
}
"""What needs torch, a client or a database is imported when it is first used: looking at a run does without."""


if not TYPE_CHECKING:  # so that type checkers find a misspelled name
    __getattr__ = imported_late(__name__, _LATE)
