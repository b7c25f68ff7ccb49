"""A terminal on which nothing acts but what we wrote: for names, paths, texts and errors of whatever origin."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from rrm.core.clean import visible
from rrm.core.errors import Notice


class CleanConsole(Console):
    """Shows control, bidirectional and invisible characters as signs (`visible`), in whatever it prints."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's, every text made visible; rich's own movements of the cursor stay."""
        for one in super().render(renderable, options):
            yield one if one.control else Segment(visible(one.text), one.style)


def clean_tracebacks() -> None:
    """From now on tracebacks and warnings, whose words may be anybody's, show control characters, too."""
    sys.excepthook = _traceback
    warnings.formatwarning = _warning


def _traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))


_formatted = warnings.formatwarning


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if issubclass(category, Notice):
        return visible(f"note: {message}\n")
    return visible(_formatted(message, category, filename, lineno, line))
