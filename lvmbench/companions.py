"""Tasks whose cells a device trains at the same time: the first of each cohort leads, and trains for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from lvmbench.catalog import Catalog
from lvmbench.cells import Task
from lvmbench.plan import Cell
from lvmbench.protocols import capabilities
from lvmbench.records import Store
from lvmbench.resolved import digest


def in_cohorts(tasks: Sequence[Task], store: Store, catalog: Catalog) -> list[Task]:
    """Return the tasks in an order in which each leader stands before its mates.

    Together are cells on a GPU that lack a fit, and differ only in their seed or in numbers with a fraction, such as
    a weight of the loss. On a processor each trains alone: its cores are the company.
    """
    cohorts: dict[str, dict[str, Task]] = {}
    for place, task in enumerate(tasks):
        name = _cohort(task.cell) if _can_join(task, store, catalog) else str(place)
        cohorts.setdefault(name, {}).setdefault(task.cell.fit_key, task)
    mates: dict[str, tuple[Cell, ...]] = {}
    leaders: dict[str, str] = {}
    for members in cohorts.values():
        first, *others = members
        mates[first] = tuple(members[other].cell for other in others)
        leaders |= dict.fromkeys(others, first)
    # of several tasks of one fit, the first leads
    return [
        replace(task, mates=mates.pop(key, ()), leader=leaders.get(key, ""))
        for task in tasks
        for key in [task.cell.fit_key]
    ]


def _can_join(task: Task, store: Store, catalog: Catalog) -> bool:
    if not task.device.startswith("cuda") or task.refit or store.fit(task.cell.fit_key) is not None:
        return False
    return "fit" not in capabilities(catalog.get("model", task.cell.model).load())


def _cohort(cell: Cell) -> str:
    """Name what the cells of a cohort have in common."""
    beside = ("seed", "label", "labels", "judge", "seedless", "role")
    same = {name: value for name, value in asdict(cell).items() if name not in beside}
    options = {n: type(v).__name__ if isinstance(v, float) else v for n, v in cell.model_options.items()}
    return digest({**same, "model_options": options})
