"""The contact sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from lvmbench_faces.dataset import Faces


def contact_sheet(faces: Faces) -> Image.Image:
    """Return a sheet of faces."""
    images = faces.images(range(48)).permute(0, 2, 3, 1).numpy()
    size = faces.size
    sheet = Image.new("RGB", (8 * size, 6 * size))
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (i % 8 * size, i // 8 * size))
    return sheet
