"""Published tables of real text, as checked records: from a path, from the folder $RRM_DATA, or from the network.

Nothing is copied into this package. A table says where it lies under a data folder, where it was published (pinned to a
commit, so that a number can be found again), and what its rows are; whoever uses it defines it beside its task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.request import urlopen

from pydantic import BaseModel, ValidationError

from rrm.core.errors import RRMError

FOLDER = "RRM_DATA"
"""The environment variable that names the folder of data sets."""

R = TypeVar("R", bound=BaseModel)


class DataError(RRMError, ValueError):
    """A table cannot be found, or a row is not what the table declares."""


@dataclass(frozen=True)
class Table(Generic[R]):
    """A published table, and the JSONL file it is kept in.

    Parameters
    ----------
    file: where it lies under a data folder: "gsm8k/test.jsonl".
    published: where it was published: a JSONL file's URL, or what `datasets.load_dataset` takes (path, name, split).
    row: what its rows are; further columns are ignored.
    """

    file: str
    published: str | Mapping[str, str]
    row: type[R]

    def read(self, where: Path | None = None) -> list[R]:
        """Its rows.

        Parameters
        ----------
        where: the file, or a folder that holds `file`. Without it: the folder $RRM_DATA if that is set, else the
            network (`datasets` keeps a copy; a URL is fetched every time).

        Raises `DataError` if there is no such file, or naming the first row that is something else.
        """
        folder = os.environ.get(FOLDER)
        if where is None and folder:
            where = Path(folder)
        if where is None:
            source, raw = str(self.published), self._fetched()
        else:
            path = where / self.file if where.is_dir() else where
            source, raw = str(path), _lines(path)
        rows: list[R] = []
        for n, row in enumerate(raw, 1):
            try:
                rows.append(self.row.model_validate(row))
            except ValidationError as error:
                what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
                raise DataError(f"{source}, row {n}: not a row of {self.file}: {what}") from error
        if not rows:
            raise DataError(f"{source} has no rows")
        return rows

    def _fetched(self) -> Iterator[Any]:
        try:
            if isinstance(self.published, str):
                with urlopen(self.published, timeout=60) as lines:
                    yield from (json.loads(line) for line in lines if line.strip())
            else:
                from datasets import load_dataset

                yield from load_dataset(**self.published)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"cannot fetch {self.published} ({error}); download it and give its path, or set {FOLDER} to the "
                f"folder that holds {self.file}"
            ) from error


def _lines(path: Path) -> Iterator[Any]:
    n = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                n += 1
                if line.strip():
                    yield json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {n}: not JSON ({error}); give a JSONL file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); give the file or its folder, or set {FOLDER}") from error
