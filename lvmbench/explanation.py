"""A fit explained: a folder with a Markdown page and the pictures that it shows, whole or not there at all."""

from __future__ import annotations

import io
import re
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lvmbench.api import Record, Section
from lvmbench.bodies import computing_in
from lvmbench.catalog import Catalog, Item
from lvmbench.environment import Phases, results_dir
from lvmbench.errors import LvmbenchError, NotApplicable, StoreError, UsageError, nearest
from lvmbench.evaluation import Evaluation
from lvmbench.fits import Fitted, Workshop, load_fit, stored
from lvmbench.plan import Cell
from lvmbench.protocols import capabilities
from lvmbench.records import TEMPORARY, Store, from_json, sweep, temporary_beside

PAGE = "page.md"
SHORTEST_KEY = 4  # letters of a fit key that may stand for it
PICTURE = re.compile(r"[\w-]+\.png")
SHOWN = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)(\))")
LEARNED = {
    "model": "Learned without labels from",
    "ceiling": "Learned from the labels of",
}  # so many pictures
OTHERS = {
    "floor": "A floor: what is to be had without training z.",
    "control": "A control: something to compare models with.",
}


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
        return _read(path.resolve())
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


def _read(path: Path) -> tuple[Record, Store]:
    """Return the record in a file, and the store that the file lies in."""
    record = from_json(path.read_bytes(), path)
    if path.parent.parts[-2:] != (record.fit_key[:2], record.fit_key):
        raise UsageError(
            f"{path}: lies in no folder of results, where its fit would be found. Name the record in the folder "
            "that it was written to."
        )
    return record, Store(path.parents[2])


def _is_shown(record: Record) -> bool:
    """Return whether there is something to show: no control that is the same fit with labels of no meaning."""
    return record.status == "done" and record.cell.get("labels", "given") == "given" and _is_whole(record)


def _is_whole(record: Record) -> bool:
    try:
        _cell(record)
    except LvmbenchError:
        return False
    return True


def _cell(record: Record) -> Cell:
    """Return the cell of a record.

    Raises:
        StoreError: if something is missing there.
    """
    try:
        return _adapter().validate_python(dict(record.cell))
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            f"The record of {record.fit_key[:8]} tells no whole cell ({first['loc'][0]}: {first['msg']}). "
            "Run it again."
        ) from None


@cache
def _adapter() -> TypeAdapter[Cell]:
    return TypeAdapter(Cell)


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
    items, cell = _asked(catalog, only), _cell(record)
    out = (out or store.path / "explain" / _folder_name(cell)).resolve()
    _make_ready(out)
    found = stored(cell, Workshop(catalog, store, device, Phases(device)))
    ev = evaluation(found, cell, store, catalog, device)
    parts, failed = [], []
    with computing_in("float32"):
        for item in items:
            heard(item.name)
            section, broke = _section(item, ev)
            parts.append((item.name, section))
            failed += [item.name] if broke else []
    _put(out, _files(_head(record, cell, found), parts))
    return Explained(out / PAGE, tuple(failed))


def _folder_name(cell: Cell) -> str:
    return re.sub(r"[^\w.,()=+-]", "_", cell.label) + f"-seed{cell.seed}-{cell.fit_key[:8]}"


def evaluation(found: Fitted, cell: Cell, store: Store, catalog: Catalog, device: str = "cpu") -> Evaluation:
    """Return the view of the fit of a cell that its metrics read, with the judge that its store holds."""
    folders = (store.fit(key) for key in _judges(cell, store, catalog))
    judge = next((folder for folder in folders if folder), None)
    return found.evaluation(cell, device, (lambda: load_fit(judge, catalog, device)) if judge else None)


def _judges(cell: Cell, store: Store, catalog: Catalog) -> Iterator[str]:
    """Yield the keys of the fits that may judge a cell: its own run's, then the newest of its data and budget."""
    if cell.judge:
        yield cell.judge
    for record in reversed([s.record for s in store.read().stored]):
        if record.cell.get("role") == "ceiling" and _is_whole(record):
            other = _cell(record)
            alike = (other.content, other.budget.fit_part()) == (cell.content, cell.budget.fit_part())
            if alike and _answers(other, catalog):
                yield record.fit_key


def _answers(cell: Cell, catalog: Catalog) -> bool:
    """Return whether a model is installed and can judge."""
    try:
        return "answers" in capabilities(catalog.get("model", cell.model).load())
    except LvmbenchError:
        return False


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


def _head(record: Record, cell: Cell, found: Fitted) -> str:
    versions = ", ".join(
        f"{name} {v}" for name, v in record.versions.items() if name in ("lvmbench", "torch")
    )
    return (
        f"# {cell.label} on {cell.dataset_label}\n\n"
        f"Seed {cell.seed}, budget {cell.budget.name}. {_learned(cell.role, found)} Explained on "
        f"{len(found.splits['test']):,} test pictures, which nothing was trained on.\n"
        f"Fit `{record.fit_key[:8]}`, {versions}."
    )


def _learned(role: str, found: Fitted) -> str:
    """Say what a model of a role learned from; of what only stands beside models, what it is."""
    if role in OTHERS:
        return OTHERS[role]
    seen = found.history.images  # none where nothing was descended
    told = f": {seen:,} seen, repeats counted" if seen else ""
    return f"{LEARNED[role]} {len(found.splits['train']):,} pictures{told}."


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


def _make_ready(out: Path) -> None:
    """Make sure that a page can be put here, and remove what was left beside it by processes that were killed.

    Raises:
        UsageError: if the place holds anything but an older page.
        StoreError: if it cannot be written.
    """
    try:
        _check(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep(out.parent.glob(f"{TEMPORARY}*"))
        probe = temporary_beside(out)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise _unwritable(out, error) from error


def _check(out: Path) -> None:
    """Refuse a folder that holds anything but an older page, or that a shell would be left without.

    Raises:
        UsageError: if it does, or is a file.
    """
    if not out.exists():
        return
    if out.samefile("."):
        raise UsageError(
            f"{out}: is the folder that you are in, and a page takes the place of its folder. Name one inside it, "
            "such as --out page."
        )
    names = [p.name for p in out.iterdir()] if out.is_dir() else []
    ours = PAGE in names and all(name == PAGE or PICTURE.fullmatch(name) for name in names)
    if not out.is_dir() or (names and not ours):
        raise UsageError(
            f"{out}: is there already and is no page of lvmbench. Choose another folder with --out."
        )


def _unwritable(out: Path, error: OSError) -> StoreError:
    return StoreError(f"{out}: the page cannot be written ({error.strerror or error}).")


def _put(out: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder whole, in place of an older one.

    Raises:
        StoreError: if it cannot be written; what was there stays.
    """
    temporary = temporary_beside(out)
    try:
        temporary.mkdir(parents=True)
        for name, blob in files:
            (temporary / name).write_bytes(blob)
        _replace(out, temporary)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(out: Path, new: Path) -> None:
    """Put a folder in the place of another; whatever interrupts it, one of them is there."""
    old = temporary_beside(out)
    try:
        if out.exists():
            out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
