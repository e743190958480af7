"""Types of arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Checkpoint", "Data", "Model", "OutputDir", "Overwrite", "ScanMask", "ScanShape", "Scheduler"]

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
Model = Annotated[Path, typer.Option("--model", help="A checkpoint, such as outputs/ae.ckpt.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint, such as outputs/ae.ckpt.")]
OutputDir = Annotated[Path, typer.Option("--output_dir", help="Folder for all results.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Address of a dask scheduler whose workers compute the result, such as tcp://node17:8786.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")]
