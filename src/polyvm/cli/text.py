"""Numbers and tables for people."""

from __future__ import annotations


def size(count: int) -> str:
    """A number of bytes: ``1.5 MiB``.

    >>> size(512), size(1536), size(3 << 30)
    ('512 B', '1.5 KiB', '3.0 GiB')
    """
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def table(rows: list[tuple[str, str]], indent: str = "") -> str:
    """Two columns, the second wrapped by nobody.

    >>> print(table([("a", "1"), ("long", "2")]))
    a     1
    long  2
    """
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{indent}{left:<{width}}  {right}".rstrip() for left, right in rows)


def columns(rows: list[tuple[str, ...]], indent: str = "") -> str:
    """Any number of columns.

    >>> print(columns([("a", "bc", "d"), ("abc", "b", "")]))
    a    bc  d
    abc  b
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
