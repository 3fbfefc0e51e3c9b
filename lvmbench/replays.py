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
    tensor. Where a number or word of the model, or a tensor that the step reads, is exchanged between steps, at a look
    say, it goes on without.

    Raises:
        Unrepeatable: if the step reads a number from a tensor, or a tensor that it puts another in the place of.
    """

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        train, rows, model = member.ground.feed.whole, member.budget.batch, member.model
        self.images, self.labels = (t.new_zeros(rows, *t.shape[1:]) for t in (train.images, train.labels))
        self.progress, self.rate = (torch.zeros((), dtype=torch.float64) for _ in range(2))
        self.plain, held = plain(model), _held(model)
        with taken_down() as tape:
            terms = super().take(self.images, self.labels, self.progress, self.rate)
        self.reads = {name: tensor for name, tensor in held.items() if tape.reads(tensor)}
        if replaced := self._replaced():
            raise Unrepeatable(f"it replaces {replaced[0]}, which it reads")
        self.again: Callable[[], Terms] | None = tape.replay(terms)

    def through(self, ends: Sequence[int]) -> Iterator[int]:
        """Take the steps that lie ahead, and yield each of these step numbers when it is done."""
        for end in super().through(ends):
            yield end
            if self.again and (changed := self._changed()):
                self.again = None
                self.member.step_by_step(f"{changed[0]} changes between steps")

    def _changed(self) -> list[str]:
        """Return the names of what is another than when the step was taken down, and is a constant of it."""
        now = plain(self.member.model)
        words = [name for name in {**now, **self.plain} if now.get(name) != self.plain.get(name)]
        return words + self._replaced()

    def _replaced(self) -> list[str]:
        """Return the names of the tensors that the step reads, in whose place the model has put others."""
        now = _held(self.member.model)
        return [name for name, tensor in self.reads.items() if now.get(name) is not tensor]

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
    """Return the buffers of a model and its parts, and other tensors among their attributes, by name."""
    return {
        f"{prefix}.{name}": value
        for prefix, part in model.named_modules()
        for name, value in {**vars(part), **dict(part.named_buffers(recurse=False))}.items()
        if isinstance(value, Tensor)
    }
