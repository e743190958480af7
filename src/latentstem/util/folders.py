"""Output folders: a new run does not overwrite the results of an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .whole_file import storage_errors

__all__ = ["is_inside", "keep_earlier_results"]


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a file is in a folder or below."""
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


@contextmanager
def keep_earlier_results(
    folder: Path, names: tuple[str, ...], report: Callable[[str], object] = print
) -> Iterator[Path | None]:
    """Move what an earlier run left in a folder into ``earlier-1`` (2, 3 ...) inside it, before a new run.

    If the new run fails before writing anything, the earlier files are moved back; otherwise `report` gets a message.
    Yields the folder of the earlier files; None if there are none.
    """
    existing = [name for name in names if (folder / name).exists()]
    if not existing:
        yield None
        return
    suffixes = [path.name.removeprefix("earlier-") for path in folder.glob("earlier-*")]
    used_numbers = [int(suffix) for suffix in suffixes if suffix.isdigit()]
    earlier_folder = folder / f"earlier-{max(used_numbers, default=0) + 1}"
    with storage_errors(earlier_folder):
        earlier_folder.mkdir()
        for name in existing:
            (folder / name).rename(earlier_folder / name)
    try:
        yield earlier_folder
    except BaseException:
        if not any((folder / name).exists() for name in names):
            for name in existing:
                (earlier_folder / name).rename(folder / name)
            earlier_folder.rmdir()
        raise
    finally:
        if earlier_folder.exists():
            report(f"Results of an earlier run were moved from {folder} to {earlier_folder}.")
