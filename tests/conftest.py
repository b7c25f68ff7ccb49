"""Test settings: the longest files first; hypothesis without deadlines (the machines are shared), reproducibly; nothing
from a hub."""

import os

import pytest
from hypothesis import settings

# No test needs a hub; asking one for a model that is not there takes 40 s of retries where there is no network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("rrm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("rrm")

LONG = (
    "parallel/test_runs.py", "docs/test_docs.py", "measure/test_command.py", "models/test_smollm2.py", "test_on_ray.py",
    "packaging/test_wheel.py", "acting/test_off_policy.py",
)  # fmt: skip
"""Files of minutes. Begun last, as files of few tests are otherwise, one of them would leave the other process idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the longest files first, in the order of `LONG`; the rest stay as they are."""

    def place(item: pytest.Item) -> int:
        file = item.path.as_posix()
        return next((n for n, name in enumerate(LONG) if file.endswith(f"tests/{name}")), len(LONG))

    items.sort(key=place)
