"""Factors in, pictures out: signed-distance fields in plain torch, on any device and at any size."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from lvmbench_faces import face, features, hair, worn
from lvmbench_faces.canvas import Canvas
from lvmbench_faces.draws import Floats
from lvmbench_faces.face import Looks
from lvmbench_faces.factors import FACIAL_HAIR, GLASSES, Table
from lvmbench_faces.palette import colors, column

VERSION = 1  # of the pictures: one more whenever a pixel changes
PIXELS_AT_ONCE = 16 * 64 * 64  # what the temporaries of a layer may span and stay in a core's cache


@torch.no_grad()
def render(
    table: Table,
    size: int,
    *,
    eye_scale: float = 1.2,
    background_std: float = 0.06,
    device: torch.device | str = "cpu",
    windowed: bool = True,
) -> Tensor:
    """Return the pictures of a table of factors: name -> [N] to uint8 [N, 3, size, size], on the CPU."""
    n = len(table["age"])
    out = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for rows in _chunks(n, max(1, PIXELS_AT_ONCE // size**2)):
        part = {name: values[rows] for name, values in table.items()}
        out[rows] = _paint(part, size, eye_scale, background_std, torch.device(device), windowed).cpu()
    return out


def _chunks(n: int, length: int) -> Iterator[slice]:
    return (slice(start, start + length) for start in range(0, n, length))


def _paint(
    table: Table, size: int, eye_scale: float, background_std: float, device: torch.device, windowed: bool
) -> Tensor:
    canvas = Canvas(size, _pose(table, device), windowed=windowed)
    looks = _looks(table, eye_scale, background_std, device)
    for layer in LAYERS:
        layer(canvas, looks)
    return canvas.rgb.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8)


LAYERS = (
    face.background,
    hair.behind,
    face.neck_and_clothes,
    face.ears,
    face.head,
    features.age_lines,
    features.nose,
    hair.facial,
    features.mouth,
    hair.moustache,
    features.eyes,
    features.brows,
    hair.front,
    worn.glasses,
    face.light,
)


def _pose(table: Table, device: torch.device) -> dict[str, Tensor]:
    pose = {
        "x": table["pos_x"],
        "y": table["pos_y"],
        "scale": table["scale"],
        "cos_roll": np.cos(table["roll"]),
        "sin_roll": np.sin(table["roll"]),
        "cos_azimuth": np.cos(table["azimuth"]),
        "sin_azimuth": np.sin(table["azimuth"]),
    }
    return {name: _column(values, device) for name, values in pose.items()}


def _column(values: Floats, device: torch.device) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _looks(table: Table, eye_scale: float, background_std: float, device: torch.device) -> Looks:
    wears = {f"{name}_glasses": table["glasses"] == k for k, name in enumerate(GLASSES)}
    grows = {name: table["facial_hair"] == k for k, name in enumerate(FACIAL_HAIR)}
    own: dict[str, Floats] = {
        "old": (table["age"] - 18) / 62,
        "female": 1 - table["male"],
        "hairy": 1 - table["bald"],
        "eye_scale": np.full(len(table["age"]), eye_scale),
        "turn": np.sin(table["azimuth"]),
        "light_x": np.sin(table["light_azimuth"]),
    }
    traits = {**table, **wears, **grows, **own}
    return Looks(
        MappingProxyType({name: _column(values, device) for name, values in traits.items()}),
        MappingProxyType(
            {name: column(values, device) for name, values in colors(table, background_std).items()}
        ),
    )
