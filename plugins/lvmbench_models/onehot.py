"""Several categorical variables as one flat vector: the distribution of a discrete code."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl


class FlatOneHot(Distribution):
    """G independent categorical variables of C classes, one-hot and side by side: batch [...], event [G * C].

    A draw is always one-hot. Its gradient is that of the Gumbel-softmax relaxation at ``temperature``
    (straight-through: Jang et al. 2017, section 2.2).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real}
    support = constraints.boolean
    has_rsample = True

    def __init__(
        self, logits: Tensor, temperature: Tensor | float = 1.0, validate_args: bool | None = None
    ) -> None:
        self.log_probs = logits.log_softmax(-1)  # [..., G, C]
        self.logits, self.temperature = self.log_probs, temperature
        shape = logits.shape[:-2], torch.Size([logits.shape[-2] * logits.shape[-1]])
        super().__init__(*shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Return the probabilities: [..., G * C]."""
        return self.log_probs.exp().flatten(-2)

    @property
    def mode(self) -> Tensor:
        """Return the likeliest code: [..., G * C]."""
        return self._hard(self.log_probs).flatten(-2)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return one-hot draws with the gradient of their relaxation: [*sample_shape, ..., G * C]."""
        log_probs = self.log_probs.expand(torch.Size(sample_shape) + self.log_probs.shape)
        gumbel = -torch.empty_like(log_probs).exponential_().log()  # -log of an exponential draw is Gumbel
        soft = ((log_probs + gumbel) / self.temperature).softmax(-1)
        return (self._hard(soft) + (soft - soft.detach())).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of one-hot codes, in nats: [..., G * C] -> [...]."""
        if self._validate_args:
            self._validate_sample(value)
        codes = value.reshape(*value.shape[:-1], *self.log_probs.shape[-2:])
        return (codes * self.log_probs).sum((-2, -1))

    def entropy(self) -> Tensor:
        """Return the entropy in nats, at most G log C: [...]."""
        return -(self.log_probs.exp() * self.log_probs).sum((-2, -1))

    @staticmethod
    def _hard(scores: Tensor) -> Tensor:
        # not one_hot, which reads numbers from a tensor to check them: steps that do cannot be replayed
        return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)


@register_kl(FlatOneHot, FlatOneHot)  # type: ignore[untyped-decorator]
def _kl(q: FlatOneHot, p: FlatOneHot) -> Tensor:
    # KL(q || p) = sum_g sum_c q_gc (log q_gc - log p_gc)
    return (q.log_probs.exp() * (q.log_probs - p.log_probs)).sum((-2, -1))
