# SPDX-License-Identifier: Apache-2.0
"""Tables as aligned text, and as HTML."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

__all__ = ["Tabular", "align", "as_html", "cell", "columns"]


def columns(kind: type, rows: Sequence[Any]) -> dict[str, list[Any]]:
    """The fields of rows of a dataclass, one by one."""
    return {
        each.name: [getattr(row, each.name) for row in rows] for each in fields(kind)
    }


def align(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """The lines of a table, without the columns that hold nothing.

    A column of words or shapes begins at the left, a column of numbers ends at the
    right.
    """
    padded = []
    for name, values in columns.items():
        if any(value is not None for value in values):
            cells = [name.replace("_", " "), *map(cell, values)]
            words = any(isinstance(value, str | tuple) for value in values)
            pad, width = str.ljust if words else str.rjust, max(map(len, cells))
            padded.append([pad(text, width) for text in cells])
    return ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]


def as_html(columns: Mapping[str, Sequence[Any]], notes: Sequence[str] = ()) -> str:
    """The same as a table of HTML, with notes in a list below."""
    head = "".join(
        f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns
    )
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell(x))}</td>' for x in row)}</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return table + (f"<ul>{items}</ul>" if items else "")


def cell(value: Any) -> str:
    """A value in few characters: 2×3 for a shape, 12.3k for a count."""
    if isinstance(value, tuple):
        return "×".join(map(str, value)) or "scalar"
    if isinstance(value, int) and value >= 10_000:
        power = min(int(math.log10(value)) // 3, 4)
        return f"{value / 1000**power:.4g}{' kMGT'[power]}"
    if isinstance(value, float | complex) and not isinstance(value, int):
        return f"{value:.4g}"
    return "" if value is None else str(value)


class Tabular:
    """What prints as a table: aligned text, and HTML where a notebook shows it."""

    def __repr__(self) -> str:
        return "\n".join((*align(self._columns()), *self._notes()))

    def _repr_html_(self) -> str:
        return as_html(self._columns(), self._notes())

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        raise NotImplementedError

    def _notes(self) -> Sequence[str]:
        """What stands beneath the rows."""
        return ()
