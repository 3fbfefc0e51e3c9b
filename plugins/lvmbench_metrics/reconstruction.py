"""How much of a picture survives the way through z and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable, expected, metric

BATCH = 256
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # Wang et al. 2004: K1 = .01, K2 = .03, data range 1
CEILING_DB = 100.0  # a reconstruction without error would be infinite, and so would every mean with it


@metric(better="lower", needs=("codes", "decoder"), bounds=(0, 1), family="reconstruction", main=False)
def mse(ev: Evaluation) -> Estimate:
    """Return the mean squared error of the decoder's mean at the posterior mean, pixels in [0, 1]."""
    return Estimate.of_rows(ev.shared(_fidelity)[0])


@metric(
    better="higher",
    unit="dB",
    needs=("codes", "decoder"),
    bounds=(0, CEILING_DB),
    family="reconstruction",
    main=False,
)
def psnr(ev: Evaluation) -> Estimate:
    """Return the mean over pictures of -10 log10(MSE), at most 100: dB."""
    floor = 10 ** (-CEILING_DB / 10)
    return Estimate.of_rows(-10 * ev.shared(_fidelity)[0].clamp(min=floor).log10())


@metric(
    better="higher",
    needs=("codes", "decoder"),
    bounds=(-1, 1),
    paper="Wang et al. 2004, 10.1109/TIP.2003.819861",
    family="reconstruction",
)
def ssim(ev: Evaluation) -> Estimate:
    """Return the structural similarity with an 11×11 gaussian window, mean over channels."""
    if min(ev.schema.shape[1:]) < WINDOW:
        raise NotApplicable(f"pictures smaller than the {WINDOW}×{WINDOW} window")
    return Estimate.of_rows(ev.shared(_fidelity)[1])


@torch.no_grad()
def _fidelity(ev: Evaluation) -> tuple[Tensor, Tensor]:
    errors, similarities = [], []
    for x, y in _pairs(ev):
        errors.append((x - y).square().flatten(1).mean(1))
        if min(ev.schema.shape[1:]) >= WINDOW:
            similarities.append(similarity(x, y))
    return torch.cat(errors), torch.cat(similarities) if similarities else torch.empty(0)


def _pairs(ev: Evaluation) -> Iterator[tuple[Tensor, Tensor]]:
    batches = zip(
        torch.split(ev.images("test"), BATCH), torch.split(ev.codes("test", ev.latent), BATCH), strict=True
    )
    for images, z in batches:
        yield expected(ev.schema, images.to(ev.device)), ev.model.decode(z).mean


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Return the SSIM of pairs of pictures with values in [0, 1]: [B, C, H, W] twice -> [B]."""
    rows, columns = (_window(n, x) for n in x.shape[-2:])

    def local(image: Tensor) -> Tensor:
        return rows @ image @ columns.T  # the window is separable: two band matrices filter all pictures

    mx, my = local(x), local(y)
    vx, vy, cov = local(x * x) - mx * mx, local(y * y) - my * my, local(x * y) - mx * my
    index = (2 * mx * my + C1) * (2 * cov + C2) / ((mx * mx + my * my + C1) * (vx + vy + C2))
    return index.flatten(1).mean(1)


def _window(n: int, like: Tensor) -> Tensor:
    """Return the gaussian window at each place where it fits: -> [n - 10, n]."""
    offset = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    kernel = torch.exp(-0.5 * (offset / SIGMA).square())
    band = torch.zeros(n - WINDOW + 1, n, dtype=like.dtype, device=like.device)
    for i in range(len(band)):
        band[i, i : i + WINDOW] = kernel / kernel.sum()
    return band
