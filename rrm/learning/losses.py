"""The losses and estimators, as pure functions: the equation, its source, and nothing else.

Log-probabilities are in nats; "per outcome" means summed over the outcome's tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    score_a: Tensor, score_b: Tensor, preference: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy of preferences under P(A better) = sigmoid(score_a - score_b); a scalar.

        -(1/pairs) sum_pairs sum_heads w * [p log sigmoid(s_a - s_b) + (1 - p) log sigmoid(s_b - s_a)]

    Bradley & Terry 1952; Christiano et al. 2017 (arXiv 1706.03741), eq. 1. A sum over heads, not a mean, so
    that a head learns as fast in an ensemble as alone (imitation PR 482).

    Parameters
    ----------
    score_a, score_b: (pairs, heads) or (pairs,).
    preference: (pairs,) in [0, 1]: 1 A is better, 0 B is better, 0.5 a tie.
    weight: bootstrap weights, of the scores' shape; default 1.
    """
    margin = score_a - score_b
    p = preference if margin.dim() == 1 else preference[:, None]
    loss = -(p * logsigmoid(margin) + (1 - p) * logsigmoid(-margin))
    if weight is not None:
        loss = loss * weight
    return loss.sum() / len(margin)


def rloo_advantages(rewards: Tensor) -> Tensor:
    """Reward minus the mean reward of the group's other outcomes; (groups, n) -> (groups, n).

        A_i = r_i - 1/(n-1) sum_{j != i} r_j = n/(n-1) * (r_i - mean(r))

    Ahmadian et al. 2024 (arXiv 2402.14740), section 3.2; Kool et al. 2019. Not divided by the group's
    standard deviation: that favors cases nearly solved or hopeless (Liu et al. 2025, arXiv 2503.20783).
    """
    n = rewards.shape[-1]
    return (rewards - rewards.mean(-1, keepdim=True)) * (n / (n - 1))


def policy_gradient(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    outcomes: int,
    clip: float = 0.2,
) -> Tensor:
    """A loss whose gradient is minus the policy gradient, per outcome of the large batch; a scalar.

        -(1/outcomes) sum_tokens A * log pi                        on-policy: Williams 1992 (REINFORCE)
        -(1/outcomes) sum_tokens min(A * r, A * clamp(r, 1-c, 1+c))   r = pi / pi_old: Schulman et al. 2017

    Parameters
    ----------
    logprobs, old_logprobs, advantages: (tokens,); without `old_logprobs` the samples are the policy's own.
    outcomes: the number of outcomes in the whole batch, so that parts of it add up to the large batch.
    """
    if old_logprobs is None:
        return -(advantages * logprobs).sum() / outcomes
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(advantages * ratio, advantages * clipped).sum() / outcomes


def dpo_loss(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float) -> Tensor:
    """(pairs,) losses; all inputs are (pairs,) log-probabilities per outcome.

        -log sigmoid(beta * [(log pi(w) - log ref(w)) - (log pi(l) - log ref(l))])

    Rafailov et al. 2023 (arXiv 2305.18290), eq. 7.
    """
    return -logsigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


def kl_estimates(logprobs: Tensor, ref_logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased estimates of KL(pi || ref) from samples of pi; (k1, k3), of the shape of the inputs.

        k1 = log pi - log ref        k3 = exp(-k1) - 1 + k1  (never negative, less variance near zero)

    Schulman 2020, "Approximating KL divergence" (joschu.net/blog/kl-approx.html). Give sums over an
    outcome's tokens for estimates per outcome.
    """
    k1 = logprobs - ref_logprobs
    return k1, torch.expm1(-k1) + k1


def best_of_n_kl(n: int) -> float:
    """KL, in nats, of the best of n samples to the policy that drew them: log n - (n - 1)/n.

    Stiennon et al. 2020 (arXiv 2009.01325), appendix G; an upper bound (Beirami et al. 2024,
    arXiv 2401.01879).
    """
    return math.log(n) - (n - 1) / n
