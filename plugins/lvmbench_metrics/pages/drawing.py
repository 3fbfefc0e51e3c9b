"""What the model draws: reconstructions of pictures it has not seen, and pictures of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench import Evaluation, NotApplicable, Section
from lvmbench_metrics.densities import decoded_codes, densities
from lvmbench_metrics.judging import pictures
from lvmbench_metrics.pages.common import need, real
from lvmbench_metrics.pages.figures import Row, sheet

TITLE = "What the model draws"
COLUMNS = 10


def section(ev: Evaluation) -> Section:
    """Show test pictures beside their reconstructions, and pictures decoded from draws of z."""
    need(ev, "codes", "decoder")
    rows = torch.arange(min(2 * COLUMNS, len(ev.images("test"))))
    faces, again = real(ev, rows), pictures(ev, decoded_codes(ev, "test")[rows])
    lines = []
    for start in range(0, len(rows), COLUMNS):
        place = slice(start, start + COLUMNS)
        lines += [Row("test pictures", faces[place]), Row("reconstructed", again[place])]
    drawn, source = _drawn(ev)
    own = [Row("drawn" if i == 0 else "", part) for i, part in enumerate(drawn.split(COLUMNS))]
    text = (
        "Above, pictures that the model was not trained on, each over what is left of it after the way through z and "
        "back; what is lost there, no reading of z can find. Below, pictures of its own: z drawn from "
        f"{source}, and decoded. It would be bad if all reconstructions looked alike (z is not used), or if the drawn "
        "pictures looked unlike the reconstructions (the density of z does not match the codes).\n\n"
        "![test pictures and their reconstructions](reconstructions.png)\n\n![pictures drawn by the model](samples.png)"
    )
    return Section(TITLE, text, {"reconstructions.png": sheet(lines), "samples.png": sheet(own)})


def _drawn(ev: Evaluation) -> tuple[Tensor, str]:
    """Return pictures of the model's own, and what their z was drawn from."""
    if "density" in ev.capabilities:
        try:
            with torch.no_grad():
                return pictures(ev, ev.model.prior().sample((2 * COLUMNS,))), "the model's prior p(z)"
        except NotApplicable:
            pass
    density = ev.shared(densities).everyone
    z = density.sample(2 * COLUMNS, ev.generator("page/samples"))
    return pictures(ev, z), f"a density of all training codes ({density.note}), for the model has no prior"
