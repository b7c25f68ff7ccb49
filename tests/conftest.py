"""Test settings: hypothesis without deadlines (the machines are shared), reproducibly; nothing from a hub."""

import os

from hypothesis import settings

# No test needs a hub; asking one for a model that is not there takes 40 s of retries where there is no network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("rrm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("rrm")
