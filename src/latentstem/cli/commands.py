"""The commands. What is slow to import is imported inside them, so that ``latentstem --help`` is quick."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..config import PRESETS, TrainingConfig
from .inputs import open_data
from .messages import note, plain_messages
from .options import given, training_options

if TYPE_CHECKING:
    from ..inference.model import LatentModel
    from ..scan.scan import Scan

__all__ = ["app"]

app = typer.Typer(
    help="Autoencoders on 4D-STEM data: latent maps and denoised diffraction patterns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"latentstem {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


Data = Annotated[
    list[Path],
    typer.Option(
        "--data",
        help="Any file that HyperSpy or py4DSTEM read, or .npy, .npz, .pt. Give it several times for a series of "
        "scans.",
    ),
]
ScanShape = Annotated[
    tuple[int, int] | None,
    typer.Option("--scan", metavar="NY NX", help="Scan rows and columns of a stack of patterns."),
]
ScanMask = Annotated[
    list[Path] | None,
    typer.Option(
        "--scan_mask",
        metavar="FILE.npy",
        help="Booleans (Ny, Nx): True excludes the position. For a series, one for each scan, in their order.",
    ),
]
PatternMask = Annotated[
    Path | None,
    typer.Option("--pattern_mask", metavar="FILE.npy", help="Booleans (H, W): True excludes the pixel."),
]
Model = Annotated[Path, typer.Option("--model", help="A checkpoint, such as outputs/ae.ckpt.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="ADDRESS", help="Of a dask cluster whose workers do it: tcp://node17:8786."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output file that is there.")]


@app.command()
@training_options
def train(
    data: Data,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder for all results.")] = Path(
        "outputs"
    ),
    preset: Annotated[
        str, typer.Option("--preset", help=f"Where the options start from: {', '.join(PRESETS)}.")
    ] = "default",
    scan: ScanShape = None,
    scan_mask: ScanMask = None,
    pattern_mask: PatternMask = None,
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

    Leaves model, latent maps, pictures and a summary in a folder.
    """
    last = output_dir / "checkpoints" / "last.ckpt"
    with plain_messages(kept=lambda: _kept(last)):
        opened = open_data(data, scan, scan_mask, pattern_mask)

        from ..functions import train_autoencoder
        from ..report.output_folder import RESULT_FILES, write_results
        from ..training.processes import is_first_process
        from ..util.folders import is_inside, keep_earlier_results
        from ..util.whole_file import require_writable_folder

        asked = given(training_arguments)
        if not is_first_process(
            TrainingConfig.from_arguments(preset, **asked)
        ):  # it has been started to help
            with contextlib.suppress(KeyboardInterrupt, SystemExit):  # the first one tells of it
                train_autoencoder(opened, preset=preset, output_dir=output_dir, progress=False, **asked)
            return
        require_writable_folder(output_dir)
        continued = resume is not None and is_inside(resume, output_dir)
        with keep_earlier_results(output_dir, () if continued else tuple(RESULT_FILES), note) as earlier:
            checkpoint, resume = (_moved(path, output_dir, earlier) for path in (checkpoint, resume))
            asked |= {"init_from": checkpoint, "resume_from": resume}
            model = train_autoencoder(
                opened, preset=preset, output_dir=output_dir, cache_dir=cache_dir, **asked
            )
            if baselines:
                _write_report(model, opened, output_dir / "report.html")
            write_results(model, opened, output_dir)
        _list_files(output_dir)


@app.command()
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
            help="Radius, in scan positions, over which latents are smoothed where neighbours are alike; 0: each "
            "position's own latents. Default: that of the context the model was trained with."
        ),
    ] = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the latent maps of a scan."""
    written: list[Path] = []
    with plain_messages(kept=lambda: _whole(written)):
        from ..hosts.latent_files import save_latents
        from ..inference.cluster import connected
        from ..io.output_files import latent_suffixes

        opened = open_data(data, scan, scan_mask)
        outputs = _outputs(opened, output, latent_suffixes(), overwrite, [*data, model, *(scan_mask or ())])

        from ..inference.model import load

        loaded = load(model)
        with connected(scheduler) as client:
            for path, part in outputs:
                embedding = loaded.embed(part, smooth=smooth, client=client, progress=True)
                save_latents(embedding, path)
                written.append(path)
                typer.echo(
                    f"{path}: {embedding.latent_dim} latents at {_times(part.scan_shape)} scan positions"
                )


@app.command()
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
    written: list[Path] = []
    with plain_messages(kept=lambda: _whole(written)):
        from ..inference.cluster import connected
        from ..io.output_files import pattern_suffixes

        opened = open_data(data, scan, scan_mask)
        outputs = _outputs(opened, output, pattern_suffixes(), overwrite, [*data, model, *(scan_mask or ())])

        from ..inference.model import load

        loaded = load(model)
        with connected(scheduler) as client:
            for path, part in outputs:
                loaded.reconstruct(part, out=path, overwrite=overwrite, client=client, progress=True)
                written.append(path)
                sizes = _times(part.scan_shape), _times(part.pattern_shape)
                typer.echo("{}: {} patterns of {} pixels".format(path, *sizes))


@app.command()
def report(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint, such as outputs/ae.ckpt.")],
    data: Data,
    output: Annotated[Path, typer.Option("--output", help="The page, .html.")] = Path("report.html"),
    scan: ScanShape = None,
    scan_mask: ScanMask = None,
    seed_agreement: Annotated[
        bool, typer.Option("--seed_agreement", help="Train once more with the next seed and compare latents.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a page of evidence: is the model better than PCA and NMF, and what does it do to the scan?

    Give the scan mask of training, if there was one.
    """
    with plain_messages():
        from ..io.output_files import check_output

        check_output(output, {".html": "html"}, overwrite, [*data, path, *(scan_mask or ())])
        opened = open_data(data, scan, scan_mask)

        from ..inference.model import load

        _write_report(load(path), opened, output, seed_agreement)
        typer.echo(f"Open {output.resolve().as_uri()} to see all of it.")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A data file, or a checkpoint.")], scan: ScanShape = None
) -> None:
    """Show what is in a data file or a checkpoint.

    Of data: shape, range, axes, quality. Of a checkpoint: configuration, training scan, last figures.
    """
    with plain_messages():
        from .info import show_data, show_model

        if path.suffix.lower() == ".ckpt":
            show_model(path)
        else:
            show_data(open_data([path], scan))


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder for all results.")] = Path(
        "demo_output"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of specimen, noise and training.")] = 0,
) -> None:
    """Train on a simulated polycrystal, in a minute or two.

    Leaves the scan, the model, pictures, and a report that shows whether the latents tell the grains apart.
    """
    with plain_messages(kept=lambda: f"What was written so far is in {output_dir}."):
        from .demo import run_demo

        agreement = run_demo(output_dir, seed=seed, report=note)
        typer.echo(f"Grains in the latents agree with the true ones: adjusted Rand index {agreement:.3f}")
        _list_files(output_dir)
        typer.echo(f"Open {(output_dir / 'report.html').resolve().as_uri()} to see all of it.")


def _write_report(model: LatentModel, scan: Scan, path: Path, seed_agreement: bool = False) -> None:
    from ..report.report import write_report

    write_report(model, scan, path, seed_agreement=seed_agreement)
    if model.evidence is not None:
        typer.echo(model.evidence["verdict"])


def _outputs(
    scan: Scan, output: Path, kinds: dict[str, str], overwrite: bool, read: list[Path]
) -> list[tuple[Path, Scan]]:
    """Each scan with the file that its result goes to: of a series, with the scan's name at the end."""
    from ..io.output_files import check_output
    from ..report.output_folder import file_names
    from ..scan.series import Series

    outputs = [(output, scan)]
    if isinstance(scan, Series):
        names = file_names(scan)
        paths = [output.with_name(f"{output.stem}_{name}{output.suffix}") for name in names]
        outputs = list(zip(paths, scan.scans, strict=True))
    for path, _ in outputs:
        check_output(path, kinds, overwrite, [scan, *read])
    return outputs


def _whole(written: list[Path]) -> str:
    if not written:
        return "Nothing was written."
    return f"Only {', '.join(map(str, written))} was written, which is whole."


def _moved(path: Path | None, folder: Path, earlier: Path | None) -> Path | None:
    """Where a checkpoint is now, if it was among the earlier results in the output folder."""
    from ..util.folders import is_inside

    if path is None or earlier is None or path.exists() or not is_inside(path, folder):
        return path
    return earlier / path.resolve().relative_to(folder.resolve())


def _kept(last: Path) -> str:
    if not last.exists():
        return "Nothing was written yet."
    return f"What was done is kept up to the last two minutes: give the same command with --resume {last} to go on from there."


def _list_files(folder: Path) -> None:
    from ..report.output_folder import RESULT_FILES

    typer.echo(f"Results in {folder}:")
    for name, what in RESULT_FILES.items():
        if (folder / name).exists():
            typer.echo(f"  {name:<20} {what.format(folder=folder)}")


def _times(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"
