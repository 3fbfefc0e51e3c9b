"""The little language of the command line: ``vae,beta-vae(beta=1,4,16),iwae(k=5)``."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lvmbench.errors import UsageError

UNNAMED = ""  # the key of a value that stands first and without the name of its option: ``images(faces)``

_NAME = re.compile(r"[A-Za-z_][\w.:/+-]*")
_WORD = re.compile(rf"{_NAME.pattern}|(?:~|\.\.?)?/[\w.:/~+-]*")  # a name, or a path that starts as one does
_MARKS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?P<open>["'])|[(){}\[\],]""", re.DOTALL)
_WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Call:
    """A name with options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        written = {k: v if _is_word(v) else repr(v) for k, v in self.options.items()}
        options = ",".join(v if k == UNNAMED else f"{k}={v}" for k, v in written.items())
        return f"{self.name}({options})" if options else self.name


def _is_word(value: Any) -> bool:
    return (
        isinstance(value, str)
        and bool(_WORD.fullmatch(value))
        and value.lower() not in {*_WORDS, "inf", "nan"}
    )


def parse_calls(text: str) -> list[Call]:
    """Return every call that a text asks for; an option with several values gives the grid of them.

    Raises:
        UsageError: if the text is malformed; names the part that is.
    """
    return [call for part in _split(text, text) for call in _expand(part.strip(), text)]


def _expand(part: str, text: str) -> Iterator[Call]:
    name, bracket, rest = part.partition("(")
    if not _NAME.fullmatch(name.strip()) or (bracket and not rest.endswith(")")):
        raise UsageError(f"'{part}' in '{text}' is not a name or name(option=value, ...).")
    grid = _arguments(rest[:-1], text) if bracket else {}
    for values in itertools.product(*grid.values()):
        yield Call(name.strip(), dict(zip(grid, values, strict=True)))


def _arguments(inside: str, text: str) -> dict[str, list[Any]]:
    grid: dict[str, list[Any]] = {}
    option = UNNAMED
    for part in _split(inside, text) if inside.strip() else []:
        key, equals, value = part.partition("=")
        equals = "" if key.lstrip()[:1] in ("'", '"') else equals  # it stands in a quoted text
        if equals:
            option = key.strip()
            if not option.isidentifier() or option in grid:
                raise UsageError(
                    f"'{option}' in '{text}' is {'given twice' if option in grid else 'no option name'}."
                )
        grid.setdefault(option, []).append(_value(value if equals else part, text))
    return grid


def _value(source: str, text: str) -> Any:
    source = source.strip()
    if source.lower() in _WORDS:
        return _WORDS[source.lower()]
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if _WORD.fullmatch(source):
            return source
        raise UsageError(
            f"'{source}' in '{text}' is not a value: write a number, a word, or a text in quotes: {source!r}."
        ) from None


def _split(inside: str, text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no quotes."""
    parts, depth, start = [], 0, 0
    for mark in _MARKS.finditer(inside):
        if mark["open"]:
            raise UsageError(f"'{text}' has an open quote.")
        depth += (mark[0] in "([{") - (mark[0] in ")]}")
        if depth < 0:
            break
        if mark[0] == "," and depth == 0:
            parts.append(inside[start : mark.start()])
            start = mark.end()
    parts.append(inside[start:])
    if depth or any(not part.strip() for part in parts):
        raise UsageError(f"'{text}' has {'a bracket too many or too few' if depth else 'an empty place'}.")
    return parts
