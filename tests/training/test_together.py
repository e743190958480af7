"""Trainings that run at once do not know of each other."""

from __future__ import annotations

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from pytorch_lightning import Callback

from helpers import maps, train
from hostile.process_snapshot import snapshot
from latentstem.nn.random_init import random_init, randomised_svd

SEEDS = (1, 2, 3)


class Meet(Callback):
    """Every step of one run waits for a step of the others, so that they are in the midst of it together."""

    def __init__(self, barrier):
        self.barrier = barrier

    def on_train_batch_start(self, *arguments):
        self.barrier.wait(timeout=60)


def test_trainings_in_threads_are_those_alone_and_leave_no_trace(scan):
    # Threads that begin take the number that was set last, in whichever thread; with another, sums round otherwise.
    torch.set_num_threads(torch.get_num_threads())
    alone = [train(scan, seed=seed) for seed in SEEDS]
    barrier = threading.Barrier(len(SEEDS))
    before = snapshot()
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        together = list(pool.map(lambda seed: train(scan, seed=seed, callbacks=[Meet(barrier)]), SEEDS))
    after = snapshot()
    for name, value in before.items():
        assert after[name] == value, name
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(maps(one, scan), maps(other, scan), atol=1e-5)
        assert one.history.keys() == other.history.keys()
        for name in one.history:
            np.testing.assert_allclose(one.history[name], other.history[name], rtol=1e-6, err_msg=name)


def test_the_global_generator_is_the_users_during_training(scan):
    """Also between the steps: what is drawn there disturbs nothing, and is what would have been drawn without."""

    class Draw(Callback):
        def __init__(self):
            self.drawn = []

        def on_train_batch_end(self, *arguments):
            self.drawn.append(torch.rand(()).item())

    draw = Draw()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        want = torch.rand(18).tolist()
        torch.manual_seed(5)
        model = train(scan, callbacks=[draw])
    assert draw.drawn == [torch.tensor(value).item() for value in want]
    np.testing.assert_array_equal(maps(model, scan), maps(train(scan), scan))


def test_lightning_speaks_again_only_after_the_last_training():
    from latentstem.training.session_state import restore_session_state

    logger = logging.getLogger("pytorch_lightning")
    before = logger.level, list(warnings.filters)
    first, second = restore_session_state(), restore_session_state()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logger.level == logging.ERROR
    warnings.filterwarnings("ignore", "of the user, meanwhile")
    mine = warnings.filters[0]
    second.__exit__(None, None, None)
    assert (logger.level, [entry for entry in warnings.filters if entry is not mine]) == before
    assert warnings.filters[0] is mine


def test_weights_are_those_of_the_seed_and_nothing_global_is_drawn():
    def build():
        return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(4, 5))

    state = torch.get_rng_state()
    with random_init(7):
        ours = build()
        noise = torch.randn(3)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        want = [*build().parameters(), torch.randn(3)]
    for value, expected in zip([*ours.parameters(), noise], want, strict=True):
        assert torch.equal(value, expected)


def test_leading_directions_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    for shape in ((60, 40), (40, 60)):
        left, right = (np.linalg.qr(rng.normal(size=(n, 30)))[0] for n in shape)
        matrix = torch.from_numpy((left * 0.7 ** np.arange(30)) @ right.T)
        found = randomised_svd(matrix, 5, seed=3)
        overlap = found.T @ torch.from_numpy(right[:, :5])
        torch.testing.assert_close(overlap.abs(), torch.eye(5, dtype=torch.float64), atol=1e-6, rtol=0)
