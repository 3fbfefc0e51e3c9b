"""Procedural faces: every attribute is exact, nothing is downloaded. The default data set of lvmbench."""

from __future__ import annotations

import lvmbench

SUMMARY = "procedural faces with exact labels: gender, age, hair, eyes, skin and 20 more; nothing to download"


@lvmbench.hookimpl
def lvmbench_datasets() -> dict[str, lvmbench.Entry]:
    """Return the faces, imported only when asked for."""
    return {"faces": lvmbench.Entry("lvmbench_faces.dataset:Faces", summary=SUMMARY)}
