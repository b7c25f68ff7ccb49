"""What is raised for errors of the user's making or of the world's: each says what, where, and how to mend it.

Errors that only one module raises stand there; these are raised or caught in several rooms.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from rrm.core.clean import visible

NOTE = "While training the node "


class RRMError(Exception):
    """An error of the user's making or of the world's: says what, where, and how to mend it.

    What it says may have a file's, a model's or a server's words in it, and ends on terminals and in logs, a traceback
    among them: so its text shows control characters instead of sending them. Raised while a node is trained, it names
    the node, too.

    Attributes
    ----------
    node: the path of the node that was trained; empty where none was.
    """

    node = ""

    def __str__(self) -> str:
        text = visible(super().__str__())
        if not self.node:
            return text
        named = re.search(rf"(?<![\w/]){re.escape(self.node)}(?!\w)", text)
        return text if named else f"{self.node}: {text}"


class Notice(UserWarning):
    """Something that is as it was asked for, and not what one would expect; the commands show it in one line."""


@contextmanager
def at_node(path: str) -> Iterator[None]:
    """What is raised within names this node, if no node below it has given it its name."""
    try:
        yield
    except RRMError as error:
        error.node = error.node or path
        raise
    except BaseException as error:
        if not any(note.startswith(NOTE) for note in getattr(error, "__notes__", ())):
            error.add_note(f"{NOTE}{path}")
        raise


class TaskError(RRMError, ValueError):
    """The task tree is wrong."""


class ConfigError(RRMError, ValueError):
    """A setting, or what it is to be set on, does not exist, or its value is not allowed."""


class Malformed(RRMError, ValueError):
    """An outcome does not parse as what its task asks for."""


class SealedOracle(RRMError, RuntimeError):
    """Something that must not know the truth tried to read it."""


class ModelError(RRMError):
    """A model cannot be loaded, or cannot do what is asked of it."""


class ContextError(ModelError):
    """A sequence is longer than what the model can read."""


class StoreError(RRMError, OSError):
    """A database cannot be read or written."""


class RunError(RRMError):
    """The run folder does not fit what was asked."""


class NodeError(RunError):
    """There is no node of this name, or there are several."""


class ToolMissing(RRMError, ImportError):
    """What a tool needs is not installed; says what to install."""


class Abstain(RRMError):
    """A tool cannot judge this outcome: its reason, in a few words ("no computation is stated")."""
