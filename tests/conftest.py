"""Test settings: hypothesis without deadlines (the machines are shared), reproducibly."""

from hypothesis import settings

settings.register_profile("rrm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("rrm")
