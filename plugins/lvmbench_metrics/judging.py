"""What the network that saw the labels says of pictures: real ones, reconstructed ones, and ones that were drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench import Evaluation, NotApplicable
from lvmbench_metrics.densities import decoded_codes

BATCH = 256


@torch.no_grad()
def pictures(ev: Evaluation, z: Tensor) -> Tensor:
    """Return the decoder's mean for some codes, pixels in [0, 1]: [N, D] -> [N, C, H, W].

    Raises:
        NotApplicable: if they are no pictures, because the decoder takes no such codes.
    """
    decoded = torch.cat([ev.model.decode(part).mean for part in z.float().split(BATCH)])
    if not bool(decoded.isfinite().all()):
        raise NotApplicable("the decoder gives no pictures of codes that it has not been trained on")
    return decoded.clamp(0, 1)


@torch.no_grad()
def said(ev: Evaluation, decoded: Tensor) -> Tensor:
    """Return the value of each attribute that the judge sees in decoded pictures, -1 for numbers: int64 [N, A].

    Bernoulli pixels are drawn: the judge has never seen grey ones. Call it inside ``ev.shared``.
    """
    seen = torch.bernoulli(decoded) if ev.schema.pixels == "bernoulli" else decoded
    return torch.cat([_answers(ev, x) for x in seen.split(BATCH)])


def _answers(ev: Evaluation, x: Tensor) -> Tensor:
    answers = ev.judge.answers(x)
    return torch.stack(
        [
            torch.full((len(x),), -1, device=ev.device) if a.is_number else answers[a.name].argmax(1)
            for a in ev.schema.attributes
        ],
        dim=1,
    )


@torch.no_grad()
def said_of_real(ev: Evaluation) -> Tensor:
    """Return what the judge sees in the test pictures themselves: int64 [N, A]."""
    return torch.cat([_answers(ev, x) for x in ev.batches("test")])


def said_of_reconstructed(ev: Evaluation) -> Tensor:
    """Return what the judge sees in the decoded codes of the test pictures: int64 [N, A]."""
    chunks = decoded_codes(ev, "test").split(BATCH)
    return torch.cat([said(ev, pictures(ev, z)) for z in chunks])
