"""One input, what it may end in, and how that is judged."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import latentstem
import latentstem.report
import latentstem.training.fit  # slow to import: before the clock of a case runs
from latentstem.errors import LatentSTEMError

SHAPE = (7, 5, 20, 16)
SECONDS = 60  # after which a case counts as hanging
QUICK = {"max_patterns": 96, "batch_size": 16, "latent_dim": 3, "progress": False}
_NO_MESSAGE = re.compile(r"\bat 0x[0-9a-f]+|<object |Traceback|pydantic|\bNone, None\b|\{\w*\}")


@dataclass(frozen=True)
class Case:
    """One input.

    Parameters
    ----------
    name : str
        Kind and details, separated by a colon.
    data : callable
        Makes the data, given an empty folder.
    arguments : dict
        Of training, beside those of a quick run.
    scan_mask, scan_shape : optional
        Given to every verb.
    expected : {"result", "error", "any"}
        What it has to end in.
    same_as : str
        Case whose latents have to be the same: equal data in another guise.
    act : callable, optional
        What is done instead of training, embedding and reconstructing, given the data and the folder.
    """

    name: str
    data: Callable[[Path], Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    scan_mask: Any = None
    scan_shape: Any = None
    expected: str = "any"
    same_as: str = ""
    act: Callable[[Any, Path], Any] | None = None


class WrongOutcome(Exception):
    """What a case must not end in."""


def outcome(case: Case, known: dict[str, np.ndarray]) -> str:
    """``result``, the name of one of our errors, or ``WRONG: ...``; latents are added to `known`."""
    with tempfile.TemporaryDirectory() as folder, _in_time(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = case.data(Path(folder))
        except Exception as error:
            return f"WRONG: the case itself: {error!r}"
        start = time.perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                (case.act or (lambda data, folder: _all_verbs(case, data, known)))(data, Path(folder))
            ended = "result"
        except LatentSTEMError as error:
            ended = type(error).__name__
            told = bad_message(error)
            if told:
                return f"WRONG: message: {told}: {error}"
        except WrongOutcome as wrong:
            return f"WRONG: {wrong}"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            return f"WRONG: {type(error).__name__} in {where}: {str(error)[:150]}"
        if time.perf_counter() - start > SECONDS:
            return "WRONG: it hung"
    if case.expected != "any" and (ended == "result") != (case.expected == "result"):
        return f"WRONG: ended in {ended}"
    return ended


def bad_message(error: LatentSTEMError) -> str:
    """What is wrong with the message of an error; empty if nothing is."""
    for part in ("what", "expected", "received", "advice"):
        text = getattr(error, part)
        if not text.strip() or "\n" in text:
            return f"{part} is empty or of several lines"
        if _NO_MESSAGE.search(text):
            return f"{part} is not for people"
    if len(str(error)) > 1200:
        return "too long"
    if error.advice.strip()[-1] not in ".?)":
        return "the advice is no sentence"
    return ""


def _all_verbs(case: Case, data: Any, known: dict[str, np.ndarray]) -> None:
    before = _digest(data)
    try:
        model = latentstem.train_autoencoder(
            data, scan_shape=case.scan_shape, scan_mask=case.scan_mask, **{**QUICK, **case.arguments}
        )
        given = {"scan_shape": case.scan_shape, "scan_mask": case.scan_mask}
        maps = latentstem.embed(data, model, **given).maps
        patterns = latentstem.reconstruct(data, model, **given)
    finally:
        if _digest(data) != before:
            raise WrongOutcome("the data have changed")
    _judge(case, data, model, maps, patterns)
    known[case.name] = maps
    if case.same_as and not np.allclose(maps, known[case.same_as], rtol=1e-4, atol=1e-5, equal_nan=True):
        apart = np.nanmax(np.abs(maps - known[case.same_as]))
        raise WrongOutcome(f"latents differ from those of {case.same_as} by {apart:.2g}")


def _judge(case: Case, data: Any, model: Any, maps: np.ndarray, patterns: np.ndarray) -> None:
    """Are latents and reconstructions there where they should be, in the data's units?"""
    scan = latentstem.as_scan(data, case.scan_shape, scan_mask=case.scan_mask)
    excluded = scan.excluded
    for name, values in (("latents", maps), ("reconstructions", patterns)):
        finite = np.isfinite(values.reshape(*scan.scan_shape, -1))
        if not finite[~excluded].all():
            raise WrongOutcome(f"{name} are not finite")
        if finite[excluded].any():
            raise WrongOutcome(f"{name} at excluded positions")
    included = scan.read(np.flatnonzero(~excluded)).astype(float)
    used = np.ones(scan.pattern_shape, bool)
    mask, crop = case.arguments.get("pattern_mask"), case.arguments.get("crop")
    if mask is not None:
        used &= ~np.asarray(mask)
    if crop is not None:
        inside = np.zeros_like(used)
        inside[crop[0] : crop[1], crop[2] : crop[3]] = True
        used &= inside
    restored = patterns.reshape(-1, *scan.pattern_shape)[~excluded.ravel()]
    wanted, found = included[:, used].mean(), restored[:, used].astype(float).mean()
    spread = included[:, used].std()
    if not abs(found - wanted) < max(0.5 * abs(wanted), 2 * spread):
        raise WrongOutcome(f"reconstructions have a mean of {found:.4g}, the data of {wanted:.4g}")


def _digest(data: Any) -> str:
    """Of the values that the user holds; empty where it is of no kind that could be changed."""
    array = (
        getattr(data, "data", data) if type(data).__module__.startswith(("hyperspy", "py4DSTEM")) else data
    )
    with contextlib.suppress(TypeError, RuntimeError):  # kinds of tensors that numpy cannot hold
        array = array.detach().numpy() if isinstance(array, torch.Tensor) else array
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        return ""
    state = (array.shape, array.strides, str(array.dtype), array.flags.writeable)
    return hashlib.sha256(repr(state).encode() + array.tobytes()).hexdigest()


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """End a case that hangs in Python code, where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, _hung)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _hung(*_: Any) -> None:
    raise WrongOutcome("it hangs")
