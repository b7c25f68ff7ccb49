"""rrm: recursive reward modeling (Leike et al. 2018, arXiv 1811.07871)."""

from typing import TYPE_CHECKING, Any

from rrm.settings import Settings
from rrm.task import Case, Fact, Finding, Group, Malformed, Outcome, Pool, RRMError, Sealed, Task, TaskError

# isort: split
from rrm.assistance import Assistance, Assistant
from rrm.check import check, faults
from rrm.tools import Abstain, Report, Tool, tool_assistant
from rrm.train import train
from rrm.user import BoundedUser, Pair, User

if TYPE_CHECKING:
    from rrm.model_user import ModelUser

__all__ = [
    "Abstain", "Assistance", "Assistant", "BoundedUser", "Case", "Fact", "Finding", "Group", "Malformed", "ModelUser",
    "Outcome", "Pair", "Pool", "RRMError", "Report", "Sealed", "Settings", "Task", "TaskError", "Tool", "User", "check",
    "faults", "tool_assistant", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first used: looking at a run does not."""
    if name == "ModelUser":
        from rrm.model_user import ModelUser

        return ModelUser
    raise AttributeError(f"module 'rrm' has no attribute {name!r}")
