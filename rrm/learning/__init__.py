"""Learning: losses, fitting the reward model, and the policy improvers."""

from rrm.learning import best_of_n, dpo, rloo
from rrm.learning.improve import Improve

IMPROVERS: dict[str, Improve] = {"rloo": rloo.improve, "dpo": dpo.improve, "best_of_n": best_of_n.improve}
"""`settings.improver` -> the function; all have the same signature."""
