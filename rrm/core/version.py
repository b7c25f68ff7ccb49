"""Which rrm this is."""

from importlib.metadata import PackageNotFoundError, version

NAME = "recursive-reward-modeling"
"""The distribution's name; the import is `rrm`."""
try:
    VERSION = version(NAME)
except PackageNotFoundError:  # a checkout on the path
    VERSION = "0+checkout"
