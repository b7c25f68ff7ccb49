"""What is raised for errors of the user's making or of the world's: each says what, where, and how to mend it.

Errors that only one module raises stand there; these are raised or caught in several rooms.
"""


from rrm.core.clean import visible


class RRMError(Exception):
    """An error of the user's making or of the world's: says what, where, and how to mend it.

    What it says may have a file's, a model's or a server's words in it, and ends on terminals and in logs, a traceback
    among them: so its text shows control characters instead of sending them.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


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


class StoreError(RRMError, OSError):
    """A database cannot be read or written."""


class RunError(RRMError):
    """The run folder does not fit what was asked."""


class ToolMissing(RRMError, ImportError):
    """What a tool needs is not installed; says what to install."""


class Abstain(RRMError):
    """A tool cannot judge this outcome: its reason, in a few words ("no computation is stated")."""
