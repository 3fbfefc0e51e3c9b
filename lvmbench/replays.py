"""One member on a processor, whose step is taken down once and run again without autograd.

What ``torch.compile`` makes of the same operators takes 7 to 18 s to build, and ran at 0.5 to 0.9 times the speed of a
replay (dense nets, batches of 20 to 128, torch 2.14): its elementwise loops gain less than its products lose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench.descent import Share, Terms
from lvmbench.members import Member
from lvmbench.tape import Tape
from lvmbench.ways import Alone


class Replayed(Alone):
    """One member, step by step, by operators that were taken down; to take them down takes a step.

    It comes to the numbers of ``Alone`` to the last bit; a progress that the loss hears of is rounded to float32.

    Raises:
        Unrepeatable: if the loss reads a number from a tensor.
    """

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        train, rows = member.ground.feed.whole, member.budget.batch
        self.images, self.labels = (t.new_zeros(rows, *t.shape[1:]) for t in (train.images, train.labels))
        self.progress, self.rate = torch.zeros(()), torch.zeros((), dtype=torch.float64)
        with Tape() as tape:
            terms = super().take(self.images, self.labels, self.progress, self.rate)
        self.again = tape.replay(terms)

    def take(self, images: Tensor, labels: Tensor, progress: Share, rate: Share) -> Terms:
        """Take one step that nobody counts, and return its terms: uint8 [B, C, H, W], [B, A] -> [] each."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.progress.fill_(progress)
        self.rate.fill_(rate)
        with torch.inference_mode():
            terms: Terms = self.again()
        return terms
