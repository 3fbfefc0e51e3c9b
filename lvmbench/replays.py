"""One member on a processor, whose step is taken down once and run again without autograd.

What ``torch.compile`` makes of the same operators takes 7 to 18 s to build, and ran at 0.5 to 0.9 times the speed of a
replay (dense nets, batches of 20 to 128, torch 2.14): its elementwise loops gain less than its products lose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from lvmbench.checkpoints import plain
from lvmbench.descent import Share, Terms
from lvmbench.members import Member
from lvmbench.tape import Unrepeatable, taken_down
from lvmbench.ways import Alone


class Replayed(Alone):
    """One member, step by step, by operators that were taken down; to take them down takes a step.

    It comes to the numbers of ``Alone`` to the last bit, but for what a schedule computes from a progress that is a
    tensor. Where a number or word of the model changes between steps, at a look say, it goes on without.

    Raises:
        Unrepeatable: if the step reads a number from a tensor, or a tensor that it puts another in the place of.
    """

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        train, rows, model = member.ground.feed.whole, member.budget.batch, member.model
        self.images, self.labels = (t.new_zeros(rows, *t.shape[1:]) for t in (train.images, train.labels))
        self.progress, self.rate = (torch.zeros((), dtype=torch.float64) for _ in range(2))
        self.plain, before = plain(model), _held(model)
        with taken_down() as tape:
            terms = super().take(self.images, self.labels, self.progress, self.rate)
        after = _held(model)
        for name, tensor in before.items():
            if after.get(name) is not tensor and tape.reads(tensor):
                raise Unrepeatable(f"it replaces {name}, which it reads")
        self.again: Callable[[], Terms] | None = tape.replay(terms)

    def through(self, ends: Sequence[int]) -> Iterator[int]:
        """Take the steps that lie ahead, and yield each of these step numbers when it is done."""
        for end in super().through(ends):
            yield end
            now = plain(self.member.model)
            if self.again and now != self.plain:
                self.again = None
                (name, *_) = (name for name in {**now, **self.plain} if now.get(name) != self.plain.get(name))
                self.member.step_by_step(f"{name} changes between steps")

    def take(self, images: Tensor, labels: Tensor, progress: Share, rate: Share) -> Terms:
        """Take one step that nobody counts, and return its terms: uint8 [B, C, H, W], [B, A] -> [] each."""
        if not self.again:
            return super().take(images, labels, progress, rate)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.progress.fill_(progress)
        self.rate.fill_(rate)
        with torch.inference_mode():
            return self.again()


def _held(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a model and its parts hold as attributes, by name."""
    return {
        f"{prefix}.{name}": value
        for prefix, part in model.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, Tensor)
    }
