"""The command ``latentstem train``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import PRESETS, TrainingConfig
from ..functions import train_autoencoder
from ..util.folders import is_inside, keep_earlier_results
from ..util.whole_file import require_writable_folder
from .arguments import Data, OutputDir, ScanMask, ScanShape
from .inputs import open_data
from .messages import echo_stderr, friendly_errors
from .options import explicit_options, training_options
from .show import list_results, make_report

__all__ = ["train"]


@training_options
def train(
    data: Data,
    output_dir: OutputDir = Path("outputs"),
    preset: Annotated[
        str,
        typer.Option("--preset", help=f"Preset that supplies the defaults: {', '.join(PRESETS)}."),
    ] = "default",
    scan: ScanShape = None,
    scan_mask: ScanMask = None,
    pattern_mask: Annotated[
        Path | None,
        typer.Option("--pattern_mask", metavar="FILE.npy", help="Booleans (H, W): True excludes the pixel."),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option("--cache_dir", help="Folder for a one-time copy of data that are slow to read."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Fine-tune: start from these weights.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Continue a run from its checkpoints/last.ckpt.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Compare with PCA and NMF, and write report.html.")
    ] = False,
    **training_arguments: Any,
) -> None:
    """Train an autoencoder on a scan.

    Writes model, latent maps, pictures and a summary to a folder.
    """
    last_checkpoint = output_dir / "checkpoints" / "last.ckpt"
    with friendly_errors(interrupted=lambda: _resume_hint(last_checkpoint)):
        input_scan = open_data(data, scan, scan_mask, pattern_mask)

        from ..report.output_folder import RESULT_FILES, write_results
        from ..training.process_group import is_rank_zero

        explicit_arguments = explicit_options(training_arguments)
        config = TrainingConfig.from_arguments(preset, **explicit_arguments)
        if not is_rank_zero(config):  # started as a rank other than 0
            with contextlib.suppress(KeyboardInterrupt, SystemExit):  # rank 0 reports the error
                train_autoencoder(
                    input_scan, preset=preset, output_dir=output_dir, progress=False, **explicit_arguments
                )
            return
        require_writable_folder(output_dir)
        resumes_in_place = resume is not None and is_inside(resume, output_dir)
        with keep_earlier_results(
            output_dir, () if resumes_in_place else tuple(RESULT_FILES), echo_stderr
        ) as earlier_folder:
            model = train_autoencoder(
                input_scan,
                preset=preset,
                output_dir=output_dir,
                cache_dir=cache_dir,
                init_from=_moved_checkpoint(checkpoint, output_dir, earlier_folder),
                resume_from=_moved_checkpoint(resume, output_dir, earlier_folder),
                **explicit_arguments,
            )
            if baselines:
                make_report(model, input_scan, output_dir / "report.html")
            write_results(model, input_scan, output_dir)
        list_results(output_dir)


def _moved_checkpoint(path: Path | None, folder: Path, earlier_folder: Path | None) -> Path | None:
    """Path of a checkpoint now: it has been moved if it was among the earlier results in the output folder."""
    if path is None or earlier_folder is None or path.exists() or not is_inside(path, folder):
        return path
    return earlier_folder / path.resolve().relative_to(folder.resolve())


def _resume_hint(last_checkpoint: Path) -> str:
    if not last_checkpoint.exists():
        return "Nothing was written yet."
    return (
        "Progress up to the last two minutes is saved. "
        f"To continue, run the same command with --resume {last_checkpoint}."
    )
