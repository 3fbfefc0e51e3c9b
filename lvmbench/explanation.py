"""A fit explained: a folder with a Markdown page and the pictures that it shows, whole or not there at all."""

from __future__ import annotations

import io
import re
import shutil
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from lvmbench.api import Record, Section, capabilities
from lvmbench.catalog import Catalog, Item
from lvmbench.environment import Phases, results_dir
from lvmbench.errors import LvmbenchError, NotApplicable, StoreError, UsageError, nearest
from lvmbench.evaluation import Evaluation
from lvmbench.fits import Workshop, load_fit, stored
from lvmbench.plan import Cell
from lvmbench.records import TEMPORARY, Store, from_json

PAGE = "page.md"
SHORTEST_KEY = 4  # letters of a fit key that may stand for it
PICTURE = re.compile(r"[\w-]+\.png")
SHOWN = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)(\))")


@dataclass(frozen=True)
class Explained:
    """Where the page lies, and which of its parts failed."""

    page: Path
    failed: tuple[str, ...] = ()


def choose(
    run: str, store: Store, *, seed: int | None = None, dataset: str | None = None
) -> tuple[Record, Store]:
    """Return the record that ``run`` means, and the store that holds its fit.

    ``run`` is a label as a table shows it, the first letters of a fit key, or the path of a record. Of several
    seeds the lowest is taken, of several fits of one cell the newest.

    Raises:
        UsageError: if nothing is meant, or different cells are; says how to choose.
        StoreError: if the record is damaged.
    """
    path = Path(run)
    if path.suffix == ".json" and path.is_file():
        return from_json(path.read_bytes(), path), Store(path.parents[2])
    records = [s.record for s in store.read().stored if _is_shown(s.record)]
    named = [r for r in records if _is_meant(r, run)]
    if not named:
        labels = dict.fromkeys(str(r.cell["label"]) for r in records)
        known = ", ".join(labels) or "none"
        raise UsageError(f"No run '{run}' in {store.path}.{nearest(run, labels)} Known: {known}.")
    meant = [r for r in named if seed in (None, r.cell["seed"]) and dataset in (None, *_dataset_names(r))]
    if not meant:
        raise UsageError(f"No run '{run}' with this seed and data set. There are: {_listed(named)}")
    newest = {_what(r): r for r in meant}  # oldest first, so that the newest stays
    if len(newest) > 1:
        raise UsageError(
            f"'{run}' may be one of {len(newest)} runs. Say --dataset, or the first letters of one's key: "
            f"{_listed(newest.values())}"
        )
    lowest = min(r.cell["seed"] for r in meant)
    return [r for r in meant if r.cell["seed"] == lowest][-1], store


def _is_shown(record: Record) -> bool:
    """Return whether there is something to show: no control that is the same fit with labels of no meaning."""
    return record.status == "done" and record.cell.get("labels", "given") == "given"


def _is_meant(record: Record, run: str) -> bool:
    key = record.fit_key
    return record.cell["label"] == run or (len(run) >= SHORTEST_KEY and key.startswith(run))


def _dataset_names(record: Record) -> tuple[str, str]:
    return str(record.cell["dataset_label"]), str(record.cell["dataset"]).rpartition(":")[2]


def _what(record: Record) -> tuple[str, ...]:
    """Return what tells cells apart that no seed and no change of code does."""
    cell = record.cell
    return str(cell["label"]), str(cell["dataset_label"]), str(cell["budget"]), str(cell["device"])


def _listed(records: Iterable[Record]) -> str:
    lines = [
        f"  {r.fit_key[:8]}  {r.cell['label']} on {r.cell['dataset_label']}, budget {r.cell['budget']['name']}, "
        f"seed {r.cell['seed']}, {r.cell['device']}"
        for r in records
    ]
    return "\n".join(["", *dict.fromkeys(lines)])


def explain(
    record: Record,
    *,
    results: str | Path | None = None,
    out: str | Path | None = None,
    only: Sequence[str] = (),
    device: str = "cpu",
) -> Path:
    """Write the page that explains the fit of a record, and return its path; what the command line does.

    Raises:
        StoreError: if the fit was not kept, or is damaged.
        UsageError: if there is no such explanation, or the folder holds something else.
        LvmbenchError: if a part failed; the page says which, and how.
    """
    store = Store(Path(results) if results else results_dir())
    found = write(record, store, Catalog.discover(), out=Path(out) if out else None, only=only, device=device)
    if found.failed:
        raise LvmbenchError(f"{found.page}: these parts failed: {', '.join(found.failed)}.")
    return found.page


def write(
    record: Record,
    store: Store,
    catalog: Catalog,
    *,
    out: Path | None = None,
    only: Sequence[str] = (),
    device: str = "cpu",
    heard: Callable[[str], None] = lambda name: None,
) -> Explained:
    """Write a page, its parts in the order of their registration; ``heard`` is told which is being made."""
    items = _asked(catalog, only)
    cell = TypeAdapter(Cell).validate_python(dict(record.cell))
    out = out or store.path / "explain" / _folder_name(cell)
    _check(out)
    ev = evaluation(cell, store, catalog, device)
    parts, failed = [], []
    for item in items:
        heard(item.name)
        section, broke = _section(item, ev)
        parts.append((item.name, section))
        failed += [item.name] if broke else []
    _put(out, _files(_head(record, cell), parts))
    return Explained(out / PAGE, tuple(failed))


def _folder_name(cell: Cell) -> str:
    return re.sub(r"[^\w.,()=+-]", "_", cell.label) + f"-seed{cell.seed}-{cell.fit_key[:8]}"


def evaluation(cell: Cell, store: Store, catalog: Catalog, device: str = "cpu") -> Evaluation:
    """Return the view of a stored cell that its metrics read, with the judge that its store holds.

    Raises:
        StoreError: if the fit was not kept, or is damaged.
    """
    shop = Workshop(catalog, store, device, Phases(device))
    found = stored(cell, shop)
    judge = _judge(cell, store, catalog)
    return found.evaluation(cell, device, (lambda: load_fit(judge, catalog, device)) if judge else None)


def _judge(cell: Cell, store: Store, catalog: Catalog) -> Path | None:
    """Return the fit that judges a cell: its own run's, or the newest of its data and budget."""
    keys = [
        r.fit_key
        for r in reversed([s.record for s in store.read().stored])
        if r.cell["role"] == "ceiling"
        and r.cell["fingerprint"] == cell.fingerprint
        and TypeAdapter(Cell).validate_python(dict(r.cell)).budget.fit_part() == cell.budget.fit_part()
        and "answers" in capabilities(catalog.get("model", r.cell["model"]).load())
    ]
    return next((folder for key in (cell.judge, *keys) if key and (folder := store.fit(key))), None)


def _asked(catalog: Catalog, only: Sequence[str]) -> list[Item]:
    names = {catalog.get("explanation", name).full_name for name in only}
    items = [i for i in catalog.items("explanation") if not names or i.full_name in names]
    if not items:
        raise UsageError("No plugin registers an explanation.")
    return items


def _section(item: Item, ev: Evaluation) -> tuple[Section, bool]:
    """Return a part of the page, or why it is not there; and whether it failed."""
    title = item.entry.summary or item.name
    try:
        section = ev.shared(item.load())
        check_section(section)
    except NotApplicable as reason:
        return Section(title, f"Not for this model: {reason}."), False
    except Exception as error:
        traceback.print_exc()
        return Section(title, f"**This part failed**: {type(error).__name__}: {error}"), True
    return section, False


def check_section(section: Section) -> None:
    """Refuse a section that shows a picture which it does not hold, or names one that no page can.

    Raises:
        ValueError: if it does.
    """
    shown = [name for _, name, _ in SHOWN.findall(section.text)]
    for name in section.images:
        if not PICTURE.fullmatch(name):
            raise ValueError(f"'{name}' is no name of a picture such as 'samples.png'")
    if absent := sorted(set(shown) - set(section.images)):
        raise ValueError(f"the text shows {', '.join(absent)}, which is none of its images")


def _head(record: Record, cell: Cell) -> str:
    versions = ", ".join(
        f"{name} {v}" for name, v in record.versions.items() if name in ("lvmbench", "torch")
    )
    rows = cell.budget
    return (
        f"# {cell.label} on {cell.dataset_label}\n\n"
        f"Seed {cell.seed}, budget {rows.name}: learned without labels from {rows.train:,} pictures, of which it "
        f"saw {rows.images:,} in all; what is shown below was never trained on ({rows.test:,} test pictures).\n"
        f"Fit `{record.fit_key[:8]}`, {versions}."
    )


def _files(head: str, parts: Sequence[tuple[str, Section]]) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the page; a picture's name begins with that of its part."""
    texts = [head]
    for part, section in parts:
        text = SHOWN.sub(lambda m, part=part: f"{m[1]}{part}-{m[2]}{m[3]}", section.text)  # type: ignore[misc]
        texts.append(f"## {section.title}\n\n{text.strip()}")
        for name, image in section.images.items():
            blob = io.BytesIO()
            image.save(blob, "PNG", optimize=True)
            yield f"{part}-{name}", blob.getvalue()
    yield PAGE, ("\n\n".join(texts) + "\n").encode()


def _check(out: Path) -> None:
    """Refuse a folder that holds anything but an older page.

    Raises:
        UsageError: if it does, or is a file.
    """
    if not out.exists():
        return
    names = [p.name for p in out.iterdir()] if out.is_dir() else []
    ours = PAGE in names and all(name == PAGE or PICTURE.fullmatch(name) for name in names)
    if not out.is_dir() or (names and not ours):
        raise UsageError(
            f"{out}: is there already and is no page of lvmbench. Choose another folder with --out."
        )


def _put(out: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder whole, in place of an older one.

    Raises:
        StoreError: if it cannot be written; what was there stays.
    """
    temporary, old = (out.with_name(f"{TEMPORARY}{uuid.uuid4().hex}") for _ in range(2))
    try:
        temporary.mkdir(parents=True)
        for name, blob in files:
            (temporary / name).write_bytes(blob)
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    except OSError as error:
        if old.exists() and not out.exists():
            old.rename(out)
        raise StoreError(f"{out}: the page cannot be written ({error.strerror or error}).") from error
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)
