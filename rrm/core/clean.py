"""Text that somebody or something else wrote, made fit to be looked at: nothing hidden, nothing that acts."""

from __future__ import annotations

import re

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls (ANSI escapes start with one); tab and newline are text
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"  # bidi, zero width
    "\ud800-\udfff\U000e0000-\U000e0fff]"  # halves of characters, tags
)


def visible(text: str) -> str:
    """`text` with control, bidirectional and invisible characters replaced by signs one can see.

    Controls become their pictures (ESC: "␛"), everything else its number ("‹202E›"). Newlines and tabs stay.
    """
    return HIDDEN.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹{code:04X}›"
