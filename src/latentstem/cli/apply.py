"""The commands that apply a model to a scan: ``latentstem embed`` and ``reconstruct``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .arguments import Data, Model, Overwrite, ScanMask, ScanShape, Scheduler
from .inputs import open_data
from .messages import friendly_errors

if TYPE_CHECKING:
    from ..inference.model import LatentModel
    from ..scan.scan import Scan

__all__ = ["embed", "reconstruct"]


def embed(
    data: Data,
    model: Model,
    output: Annotated[Path, typer.Option("--output", help=".npz, .hspy, .zspy, or .h5 (py4DSTEM).")] = Path(
        "latents.npz"
    ),
    scan: ScanShape = None,
    scan_mask: ScanMask = None,
    smooth: Annotated[
        int | None,
        typer.Option(
            help="Smoothing radius in scan positions (similar neighbours only); 0: no smoothing. Default: the model's "
            "context."
        ),
    ] = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the latent maps of a scan."""

    def write(latent_model: LatentModel, single_scan: Scan, path: Path, client: Any) -> str:
        from ..hosts.latent_files import save_latents

        embedding = latent_model.embed(single_scan, smooth=smooth, client=client, progress=True)
        save_latents(embedding, path)
        return "{} latents at {} x {} scan positions".format(embedding.latent_dim, *single_scan.scan_shape)

    _write_for_each_scan(write, "latents", data, model, output, scan, scan_mask, scheduler, overwrite)


def reconstruct(
    data: Data,
    model: Model,
    output: Annotated[Path, typer.Option("--output", help=".npy, .npz, .hspy, .zspy, or .h5 (py4DSTEM).")],
    scan: ScanShape = None,
    scan_mask: ScanMask = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the denoised diffraction patterns of a scan, block by block."""

    def write(latent_model: LatentModel, single_scan: Scan, path: Path, client: Any) -> str:
        latent_model.reconstruct(single_scan, out=path, overwrite=overwrite, client=client, progress=True)
        return "{} x {} patterns of {} x {} pixels".format(
            *single_scan.scan_shape, *single_scan.pattern_shape
        )

    _write_for_each_scan(write, "patterns", data, model, output, scan, scan_mask, scheduler, overwrite)


def _write_for_each_scan(
    write: Callable[[LatentModel, Scan, Path, Any], str],
    content: Literal["latents", "patterns"],
    data: list[Path],
    model: Path,
    output: Path,
    scan: tuple[int, int] | None,
    scan_mask: list[Path] | None,
    scheduler: str | None,
    overwrite: bool,
) -> None:
    """Let `write` write a file for each scan, and print what it returns; all files are checked first."""
    written_paths: list[Path] = []
    with friendly_errors(interrupted=lambda: _written_files_message(written_paths)):
        from ..inference.cluster import connect_scheduler
        from ..io.output_files import latent_suffixes, pattern_suffixes

        input_scan = open_data(data, scan, scan_mask)
        suffixes = latent_suffixes() if content == "latents" else pattern_suffixes()
        inputs = [*data, model, *(scan_mask or ())]
        outputs = _output_paths(input_scan, output, suffixes, overwrite, inputs)

        from ..inference.model import load

        latent_model = load(model)
        with connect_scheduler(scheduler) as client:
            for path, single_scan in outputs:
                text = write(latent_model, single_scan, path, client)
                written_paths.append(path)
                typer.echo(f"{path}: {text}")


def _output_paths(
    scan: Scan, output: Path, suffixes: dict[str, str], overwrite: bool, inputs: list[Path]
) -> list[tuple[Path, Scan]]:
    """Each scan with its output file; for a series, the name of the scan is appended to the file name."""
    from ..io.output_files import check_output
    from ..report.output_folder import file_names
    from ..scan.series import Series

    outputs = [(output, scan)]
    if isinstance(scan, Series):
        names = file_names(scan)
        paths = [output.with_name(f"{output.stem}_{name}{output.suffix}") for name in names]
        outputs = list(zip(paths, scan.scans, strict=True))
    for path, _ in outputs:
        check_output(path, suffixes, overwrite, [scan, *inputs])
    return outputs


def _written_files_message(written_paths: list[Path]) -> str:
    if not written_paths:
        return "Nothing was written."
    return f"Written completely: {', '.join(map(str, written_paths))}. The rest was not written."
