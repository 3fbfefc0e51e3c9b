"""Steps recorded as a graph of a GPU and replayed: no step waits for the processor, and members run side by side.

What is recorded is held to the same steps taken one by one, before anything is trained with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lvmbench.branches import Branch
from lvmbench.descent import Terms, learning_rate
from lvmbench.mapped import beside
from lvmbench.members import progress_at
from lvmbench.randomness import Streams, stream
from lvmbench.ways import fail

STRIDE = 8  # steps in a graph: what a launch costs is shared by them


def _memory_error(error: BaseException | None) -> torch.OutOfMemoryError | None:
    """Return the want of memory that an error of a recording hides, if it does."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error


@dataclass(frozen=True)
class Inputs:
    """What a graph of so many steps reads, where it lies on the device: the members' pictures, labels and shares."""

    images: Tensor  # uint8 [M, steps, B, C, H, W]
    labels: Tensor  # [M, steps, B, A]
    progress: Tensor  # [steps]
    rate: Tensor  # [steps]


Work = Callable[[], Mapping[str, Tensor]]


def recorded(work: Work, streams: Sequence[Streams]) -> Work:
    """Return what does the work of a GPU again, as it was recorded; on a processor there is nothing to record.

    Random numbers come from ``streams``, where they stand by then. What it returns is filled anew each time.
    """
    if streams[0].cuda is None:
        return work
    graph = torch.cuda.CUDAGraph()
    for own in streams:
        graph.register_generator_state(own.device)
    try:
        # of this thread: another may be pinning the pictures that come next
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            told = work()
    except Exception as error:
        for own in streams:
            own.renew()
        raise _memory_error(error) or error from None

    def replay() -> Mapping[str, Tensor]:
        graph.replay()
        return told

    return replay


class Graphed:
    """Branches of a cohort, which run side by side in one graph."""

    stride = STRIDE

    def __init__(self, branches: Sequence[Branch]) -> None:
        self.branches = branches
        self.members = [member for branch in branches for member in branch.members]
        first = self.members[0]
        self.ground, self.budget = first.ground, first.budget
        shares = [progress_at(step, self.budget.steps) for step in range(1, self.budget.steps + 1)]
        self.progress = torch.tensor(shares, device=self.ground.device)
        self.rate = torch.tensor(
            [learning_rate(share, self.budget.steps) for share in shares], device=self.ground.device
        )
        self.looks = [Streams(0, self.ground.device) for _ in self.members]
        self.steps: dict[int, tuple[Inputs, Work]] = {}
        self.looked: dict[int, tuple[Inputs, Work]] = {}
        self.since: list[Terms] = []  # of [steps, M], that nobody has looked at

    def record(self) -> None:
        """Record all that will be repeated, before any row is taken."""
        for n in (1, STRIDE):
            if n not in self.steps:
                self.steps[n] = self.stepper(n)
        for images in self.ground.val.images.split(self.budget.batch):
            if len(images) not in self.looked:
                self.looked[len(images)] = self.looker(len(images))

    def through(self, ends: Sequence[int]) -> Iterator[int]:
        """Take the steps that lie ahead, and yield each of these step numbers when it is done."""
        begun = step = self.members[0].step
        strides = [n for a, b in pairwise([begun, *ends]) for n in _strides(b - a)]
        seen = self.ground.feed.batches(self._rows(n) for n in strides)
        for end in ends:
            while step < end:
                n = next(iter(_strides(end - step)))
                self.take(step, n, *next(seen))
                step += n
            yield end

    def _rows(self, steps: int) -> Tensor:
        """Return the rows of the next steps of each member: [M * steps * B]."""
        return torch.cat([member.order.take(steps * self.budget.batch) for member in self.members])

    def take(self, step: int, n: int, images: Tensor, labels: Tensor) -> None:
        """Take so many steps after one: uint8 [M * n * B, C, H, W], [M * n * B, A]."""
        inputs, again = self.steps[n]
        inputs.images.copy_(images.view_as(inputs.images))
        inputs.labels.copy_(labels.view_as(inputs.labels))
        inputs.progress.copy_(self.progress[step : step + n])
        inputs.rate.copy_(self.rate[step : step + n])
        terms = again()
        for member in self.members:
            member.step += 0 if member.stopped else n
        self.since.append({name: term.clone() for name, term in terms.items()})

    def stepper(self, n: int, warm: Callable[[], None] | None = None) -> tuple[Inputs, Work]:
        """Return a graph of so many steps, and what it reads.

        With ``warm`` they are taken once before, unrecorded, so that libraries are ready; it undoes them.
        """
        train, size, device = (
            self.ground.feed.whole,
            (len(self.members), n, self.budget.batch),
            self.ground.device,
        )
        inputs = Inputs(
            torch.zeros(*size, *train.images.shape[1:], dtype=torch.uint8, device=device),
            torch.zeros(*size, *train.labels.shape[1:], device=device),
            torch.zeros(n, device=device),
            torch.zeros(n, device=device),
        )
        if warm:
            self.side_by_side(inputs)
            warm()
        return inputs, recorded(lambda: self.side_by_side(inputs), [m.streams for m in self.members])

    def side_by_side(self, inputs: Inputs) -> Mapping[str, Tensor]:
        """Take the steps of all branches, each on a stream of the device; return their terms: [steps, M] each."""

        def steps(branch: Branch, own: slice) -> Terms:
            terms = [
                branch.step(inputs.images[own, i], inputs.labels[own, i], inputs.progress[i], inputs.rate[i])
                for i in range(len(inputs.rate))
            ]
            return {name: torch.stack([t[name] for t in terms]).reshape(len(terms), -1) for name in terms[0]}

        return self._forked(steps)

    def _forked(self, work: Callable[[Branch, slice], Terms]) -> Mapping[str, Tensor]:
        """Let each branch work on a stream of its own; return their terms side by side: [..., M] each."""
        told, begin = [], 0
        with beside(self.ground.device) as aside:
            for branch in self.branches:
                own = slice(begin, begin := begin + len(branch.members))
                with aside():
                    told.append(work(branch, own))
        return {name: torch.cat([terms[name] for terms in told], dim=-1) for name in told[0]}

    def check(self) -> None:
        """Let the members fail whose losses were not finite in a step that nobody has looked at."""
        since, self.since = self.since, []
        if not since:
            return
        terms = {name: torch.cat([told[name] for told in since]) for name in since[0]}
        sound = torch.stack([term.isfinite() for term in terms.values()]).all(0).cpu()  # [steps, M]
        for i, member in enumerate(self.members):
            if not member.stopped and not sound[:, i].all():
                first = int((~sound[:, i]).nonzero()[0])
                step = member.step - len(sound) + 1 + first
                fail(member, step, {name: term[first, i] for name, term in terms.items()})

    @torch.no_grad()
    def look(self) -> Sequence[Terms]:
        """Return each member's first loss on the validation data, means over its rows in nats: [] each."""
        for member, streams in zip(self.members, self.looks, strict=True):
            streams.seed(stream(member.seed, "look"))
        means: dict[str, Tensor] = {}
        val, batch = self.ground.val, self.budget.batch
        for images, labels in zip(val.images.split(batch), val.labels.split(batch), strict=True):
            inputs, again = self.looked[len(images)]
            inputs.images.copy_(images)
            inputs.labels.copy_(labels)
            for name, term in again().items():
                means[name] = means.get(name, 0) + term.double() * (len(images) / len(val))
        return [{name: term[i] for name, term in means.items()} for i in range(len(self.members))]

    def looker(self, rows: int) -> tuple[Inputs, Work]:
        """Return a graph of a look at so many pictures, and what it reads."""
        images, labels = (
            torch.zeros_like(t[:rows]) for t in (self.ground.val.images, self.ground.val.labels)
        )

        def look(branch: Branch, own: slice) -> Terms:
            told = branch.look(images, labels, self.looks[own])
            return {name: term.reshape(-1) for name, term in told.items()}

        def work() -> Mapping[str, Tensor]:
            self._mode(training=False)
            try:
                with torch.no_grad():
                    return self._forked(look)
            finally:
                self._mode(training=True)

        nothing = torch.zeros(0, device=images.device)
        return Inputs(images, labels, nothing, nothing), recorded(work, self.looks)

    def _mode(self, *, training: bool) -> None:
        for member in self.members:
            member.model.train(training)

    def close(self) -> None:
        """Forget what was recorded, and give every member tensors of its own."""
        self.steps.clear()
        self.looked.clear()
        for branch in self.branches:
            branch.close()


def _strides(steps: int) -> list[int]:
    """Return how many steps are taken at once, to so many in all."""
    return [STRIDE] * (steps // STRIDE) + [1] * (steps % STRIDE)
