"""Output folders: what an earlier run left there is moved aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .whole_file import storage_errors

__all__ = ["is_inside", "keep_earlier_results"]


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a file is somewhere in a folder."""
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


@contextmanager
def keep_earlier_results(
    folder: Path, names: tuple[str, ...], say: Callable[[str], object] = print
) -> Iterator[Path | None]:
    """Move what an earlier run left in a folder into ``earlier-1`` (2, 3 ...) in there, before a new run.

    If the new run fails before it has written anything, the earlier files come back; else `say` is told.

    Yields
    ------
    Path or None
        Where the earlier files are; None if there are none.
    """
    present = [name for name in names if (folder / name).exists()]
    if not present:
        yield None
        return
    taken = [int(old.name[8:]) for old in folder.glob("earlier-*") if old.name[8:].isdigit()]
    aside = folder / f"earlier-{max(taken, default=0) + 1}"
    with storage_errors(aside):
        aside.mkdir()
        for name in present:
            (folder / name).rename(aside / name)
    try:
        yield aside
    except BaseException:
        if not any((folder / name).exists() for name in names):
            for name in present:
                (aside / name).rename(folder / name)
            aside.rmdir()
        raise
    finally:
        if aside.exists():
            say(f"The results of an earlier run, which were in {folder}, are now in {aside}.")
