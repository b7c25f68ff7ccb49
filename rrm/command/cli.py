"""`rrm`: train, check and plan trees, look at runs, report on them, be the user, export, import, measure."""

# The order is that of --help.
# isort: off
from rrm.command import new_command
from rrm.command import tree_commands
from rrm.command import plan_command
from rrm.command import run_commands
from rrm.command import tag_command
from rrm.command import judge_commands
from rrm.command import report_command
from rrm.command import measure_commands
from rrm.command import model_commands
from rrm.command import trust_commands
from rrm.command import proof_commands
from rrm.command import explain_command
from rrm.command import audit_command
# isort: on
from rrm.command.common import app

__all__ = [
    "app", "audit_command", "explain_command", "judge_commands", "measure_commands", "model_commands", "new_command",
    "plan_command", "proof_commands", "report_command", "run_commands", "tag_command", "tree_commands",
    "trust_commands",
]  # fmt: skip
