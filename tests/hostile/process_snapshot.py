"""The state of a process that belongs to the user, to be compared before and after a call of the library."""

from __future__ import annotations

import gc
import hashlib
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from typing import Any

import dask
import hyperspy.api as hs
import matplotlib
import numpy as np
import psutil
import torch
from torch.utils.data import BatchSampler, DataLoader


def snapshot() -> dict[str, Any]:
    """All of the process that a call of the library must leave as it was."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    return {
        "random numbers of torch": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "random numbers of numpy": hashlib.sha256(str(np.random.get_state()).encode()).hexdigest(),  # noqa: NPY002
        "random numbers of Python": hash(random.getstate()),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "threads": sorted({thread.name for thread in threading.enumerate()} - {"tqdm_monitor"}),
        "processes": [child.pid for child in psutil.Process().children(recursive=True)],
        "torch": (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.multiprocessing.get_sharing_strategy(),
            torch._C._len_torch_function_stack(),
        ),
        "loaders of torch": {
            (cls, name): vars(cls).get(name)
            for cls in (DataLoader, BatchSampler)
            for name in ("__init__", "__setattr__", "__delattr__", "__old__init__")
        },
        "numpy": (np.geterr(), np.get_printoptions()),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "loggers": {
            logger.name: (
                logger.level,
                logger.disabled,
                logger.propagate,
                list(logger.handlers),
                list(logger.filters),
            )
            for logger in loggers
        },
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile()),
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "environment": dict(os.environ),
        "paths": (os.getcwd(), list(sys.path)),
        "interpreter": (gc.isenabled(), sys.getrecursionlimit(), sys.getswitchinterval()),
        "start of processes": multiprocessing.get_start_method(allow_none=True),
        "matplotlib": {name: dict.__getitem__(matplotlib.rcParams, name) for name in matplotlib.rcParams},
        "dask": dict(dask.config.config),
        "HyperSpy": {name: vars(part) for name, part in vars(hs.preferences).items()},
    }
