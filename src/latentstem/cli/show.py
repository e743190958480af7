"""The commands that show results: ``latentstem report``, ``info`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import Checkpoint, Data, OutputDir, Overwrite, ScanMask, ScanShape
from .inputs import open_data
from .messages import echo_stderr, friendly_errors

if TYPE_CHECKING:
    from ..inference.model import LatentModel
    from ..scan.scan import Scan

__all__ = ["demo", "info", "list_results", "make_report", "report"]


def report(
    path: Checkpoint,
    data: Data,
    output: Annotated[Path, typer.Option("--output", help="The page, .html.")] = Path("report.html"),
    scan: ScanShape = None,
    scan_mask: ScanMask = None,
    seed_agreement: Annotated[
        bool, typer.Option("--seed_agreement", help="Train once more with the next seed and compare latents.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write an HTML report: comparison with PCA and NMF, virtual images of recorded and reconstructed patterns.

    Give the scan mask of training, if there was one.
    """
    with friendly_errors():
        from ..io.output_files import check_output

        check_output(output, {".html": "html"}, overwrite, [*data, path, *(scan_mask or ())])
        input_scan = open_data(data, scan, scan_mask)

        from ..inference.model import load

        make_report(load(path), input_scan, output, seed_agreement)
        _print_address(output)


def info(
    path: Annotated[Path, typer.Argument(help="A data file, or a checkpoint.")], scan: ScanShape = None
) -> None:
    """Show what is in a data file or a checkpoint.

    Of data: shape, range, axes, quality. Of a checkpoint: configuration, training scan, last values of the history.
    """
    with friendly_errors():
        from .info import show_data, show_model

        if path.suffix.lower() == ".ckpt":
            show_model(path)
        else:
            show_data(open_data([path], scan))


def demo(
    output_dir: OutputDir = Path("demo_output"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of specimen, noise and training.")] = 0,
) -> None:
    """Train on a simulated polycrystal, in a minute or two.

    Writes the scan, the model, pictures, and a report that shows whether the latents separate the grains.
    """
    with friendly_errors(interrupted=lambda: f"What was written so far is in {output_dir}."):
        from .demo import run_demo

        agreement = run_demo(output_dir, seed=seed, report=echo_stderr)
        typer.echo(f"Clusters of latents against true grains: adjusted Rand index {agreement:.3f}")
        list_results(output_dir)
        _print_address(output_dir / "report.html")


def make_report(model: LatentModel, scan: Scan, path: Path, seed_agreement: bool = False) -> None:
    """Write the report and print its verdict."""
    from ..report import write_report

    write_report(model, scan, path, seed_agreement=seed_agreement)
    if model.evidence is not None:
        typer.echo(model.evidence["verdict"])


def list_results(folder: Path) -> None:
    """Print the files in an output folder, and what each is."""
    from ..report.output_folder import RESULT_FILES

    typer.echo(f"Results in {folder}:")
    for name, description in RESULT_FILES.items():
        if (folder / name).exists():
            typer.echo(f"  {name:<20} {description.format(folder=folder)}")


def _print_address(page: Path) -> None:
    typer.echo(f"Open {page.resolve().as_uri()} in a browser.")
