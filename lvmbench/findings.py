"""What is wrong with the files of a data set: counted for a record, told under a table."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from lvmbench.data import Effect, Finding, HasFindings

EFFECTS: tuple[Effect, ...] = get_args(Effect)


def findings_of(dataset: Any) -> tuple[Finding, ...]:
    """Return what a data set has found in its files so far; nothing where it does not look."""
    return tuple(dataset.findings) if isinstance(dataset, HasFindings) else ()


def refused(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that a strict run refuses: all but what an option had left out."""
    return [finding for finding in findings if finding.effect != "dropped"]


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many there are of each kind, by names such as ``left out: picture without a row``, sorted."""
    return dict(sorted(Counter(f"{finding.effect}: {finding.what}" for finding in findings).items()))


def summary(counts: Mapping[str, int]) -> list[str]:
    """Return counts as a line an effect, the most frequent kind first."""
    kinds: dict[str, list[str]] = {effect: [] for effect in EFFECTS}
    for key, count in sorted(counts.items(), key=lambda item: -item[1]):
        effect, _, what = key.partition(": ")
        kinds.setdefault(effect, []).append(f"{what} ({count:,})")
    return [f"{effect}: {'; '.join(named)}" for effect, named in kinds.items() if named]


def by_kind(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return findings by kind, in the order of their effects, the most frequent first."""
    kinds: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda f: EFFECTS.index(f.effect)):
        kinds.setdefault(f"{finding.effect}: {finding.what}", []).append(finding)
    return dict(sorted(kinds.items(), key=lambda item: (EFFECTS.index(item[1][0].effect), -len(item[1]))))


def named(finding: Finding) -> str:
    """Return where a finding is, and what more there is to say of it."""
    return f"{finding.where}: {finding.told}" if finding.told else finding.where


def check_command(name: str, *options: str) -> str:
    """Return the command that examines a data set, as a shell takes it; without options it names all findings."""
    return " ".join(["lvmbench data check", *map(_quoted, [name, *(options or ("--all",))])])


def _quoted(word: str) -> str:
    """Return a word as a shell takes it, where that will do in double quotes: options have single ones."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)
