"""Single columns of a dataset, read without opening an image."""

from typing import Any

IMAGE_ID = "image_id"  # the column that names the image of a row


def column_names(rows: Any) -> list[str] | None:
    """Name the columns of a dataset, or the keys of a list of rows; None where they are known on reading only."""
    if isinstance(rows, list):
        return list(dict.fromkeys(name for row in rows for name in row))
    names = getattr(rows, "column_names", None)
    return names if isinstance(names, list) else None


def column_of(rows: Any, name: str) -> list[Any] | None:
    """Read one column of a list of rows or a `datasets.Dataset`; None where there is none, or none is known."""
    if name not in (column_names(rows) or ()):
        return None
    if isinstance(rows, list):
        return [row.get(name) for row in rows]
    return rows.select_columns(name).with_format("arrow")[:][name].to_pylist()  # decodes no other column
