"""Films: what an agent did in an environment, in a bounded number of pictures, for people who look at it.

    runs/<name>/films/<case>-<outcome>.safetensors

A film is made where the environment is at hand, when its episode is about to be judged, and kept small; who looks at a
run later needs neither the environment nor its code, which may be somebody else's. It decides nothing: a run without
films is the same run. Each picture is lines of text, or a PNG.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rrm.core.errors import RRMError

FOLDER = "films"
"""In a run's folder."""
MOST_DRAWN = 240
"""Pictures of text in a film."""
MOST_PAINTED = 64
"""PNGs in a film."""
BYTES = 1 << 20
"""Most bytes of a film's PNGs, and most characters of its texts."""
SIDE = 240
"""Most pixels of a PNG's longer side."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class FilmError(RRMError, ValueError):
    """Pictures that cannot be kept."""


@dataclass(frozen=True)
class Film:
    """An episode in pictures.

    Attributes
    ----------
    of: steps of the episode.
    steps: per picture, after how many steps it shows the episode; rising.
    captions, texts: per picture; a text is empty where there is an image.
    images: PNGs, one a picture, or none at all.
    """

    of: int
    steps: tuple[int, ...]
    captions: tuple[str, ...]
    texts: tuple[str, ...]
    images: tuple[bytes, ...] = ()

    def written(self) -> bytes:
        """As a safetensors file: the images' bytes as tensors, the rest as its metadata."""
        rest = {"of": self.of, "steps": self.steps, "captions": self.captions, "texts": self.texts}
        tensors = {str(i): np.frombuffer(image, np.uint8) for i, image in enumerate(self.images)}
        return save(tensors, {"film": json.dumps(rest)})


def spread(n: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to n - 1, evenly, the first and the last among them."""
    if n <= most:
        return [*range(n)]
    return [i * (n - 1) // (most - 1) for i in range(most)]


def path_of(folder: Path, case: str, outcome: str) -> Path:
    """Where a run keeps the film of an outcome (`Case.id`, `Outcome.id`)."""
    return folder / FOLDER / f"{case}-{outcome}.safetensors"


def keep(folder: Path, case: str, outcome: str, film: Film) -> None:
    """Write it, unless it is there. It is whole or not there, but nobody waits for the disk: nothing hangs on it."""
    path = path_of(folder, case, outcome)
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(film.written())
        temporary.replace(path)
    except OSError as error:
        raise FilmError(f"cannot write {path} ({error}); make room and run again") from error
    finally:  # of what was not renamed, also by Ctrl-C
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read(folder: Path, case: str, outcome: str) -> Film | None:
    """The film of an outcome, without its images' bytes (each is `b""`; see `image`). None if there is none, or it is
    not what was kept: then there is nothing to look at, and nothing else is wrong."""
    with suppress(OSError, SafetensorError, ValueError, KeyError, TypeError):
        with safe_open(path_of(folder, case, outcome), "numpy") as file:
            rest = json.loads((file.metadata() or {})["film"])
            images = len(file.keys())
        film = Film(
            int(rest["of"]), tuple(map(int, rest["steps"])), tuple(map(str, rest["captions"])),
            tuple(map(str, rest["texts"])), (b"",) * images,
        )  # fmt: skip
        n = len(film.steps)
        if 0 < n <= MOST_DRAWN and len(film.captions) == len(film.texts) == n and images in (0, n):
            return film
    return None


def image(folder: Path, case: str, outcome: str, number: int) -> bytes | None:
    """A PNG of a film; None if there is none, or it is none."""
    with suppress(OSError, SafetensorError), safe_open(path_of(folder, case, outcome), "numpy") as file:
        if str(number) in file.keys():  # noqa: SIM118 (it has no `in`)
            body: bytes = file.get_tensor(str(number)).tobytes()
            return body if body.startswith(SIGNATURE) and len(body) <= BYTES else None
    return None


# --- pictures of pixels --------------------------------------------------------------------------------


def painted(frames: Sequence[NDArray[Any]], side: int = SIDE) -> tuple[bytes, ...]:
    """Frames, each (height, width, 3 or 4) or (height, width) of uint8, as PNGs, made smaller until all together have
    at most `BYTES` bytes. Raises `FilmError` for a frame that is none."""
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] not in (3, 4)):
            raise FilmError(f"a frame of shape {frame.shape} and {frame.dtype}, not (height, width, 3) of uint8")
        if not frame.size:
            raise FilmError(f"a frame of shape {frame.shape} without a pixel")
    while True:
        found = tuple(png(_smaller(frame, side)) for frame in frames)
        if sum(map(len, found)) <= BYTES or side <= 8:
            return found
        side //= 2


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(height, width, 3) as a PNG (ISO/IEC 15948: color type 2, 8 bits, no filter)."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 3)], 1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _smaller(frame: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """As (height, width, 3), of at most `side` pixels in each direction: means of square blocks."""
    colors = np.repeat(frame[:, :, None], 3, 2) if frame.ndim == 2 else frame[:, :, :3]
    by = -(-max(colors.shape[:2]) // side)
    if by == 1:
        return np.ascontiguousarray(colors)
    height, width = (max(1, n // by) for n in colors.shape[:2])
    whole = colors[: height * by, : width * by]
    if whole.shape[:2] != (height * by, width * by):  # thinner than one block
        whole = np.pad(whole, [(0, height * by - whole.shape[0]), (0, width * by - whole.shape[1]), (0, 0)], "edge")
    total = np.zeros((height, width, 3), np.uint32)  # summed slice by slice, which is quicker than a mean over blocks
    for down in range(by):
        for right in range(by):
            total += whole[down::by, right::by]
    blocks: NDArray[np.uint8] = ((total + by * by // 2) // (by * by)).astype(np.uint8)
    return blocks
