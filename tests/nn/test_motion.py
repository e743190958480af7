"""Patterns move as a whole: by pixels that one can count, not at all at the start, and so that descan is learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latentstem
from helpers import train
from latentstem.nn.motion import Motion
from latentstem.nn.networks import build_network
from latentstem.training import run


def motion(shape, numbers):
    """One that moves every pattern alike: rows x, y of the matrix and the shift, in pixels at the edge."""
    moves = Motion(3, shape)
    with torch.no_grad():
        moves.linear.bias.copy_(torch.tensor(numbers))
    return moves


def test_nothing_moves_at_the_start():
    patterns = torch.rand(5, 12, 17)
    torch.testing.assert_close(Motion(3, (12, 17))(patterns, torch.randn(5, 3)), patterns, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, -2), (-3, 2)])
def test_a_shift_is_in_pixels(right, down):
    patterns = torch.rand(2, 12, 17)
    with torch.no_grad():
        moved = motion((12, 17), [0.0, 0, -right, 0, 0, -down])(patterns, torch.zeros(2, 3))
    want = patterns.roll((down, right), (1, 2))
    torch.testing.assert_close(moved[:, 3:-3, 3:-3], want[:, 3:-3, 3:-3], rtol=0, atol=1e-4)


def test_a_quarter_turn_is_a_quarter_turn():
    patterns, half = torch.rand(2, 14, 14), 7.0
    with torch.no_grad():
        turned = motion((14, 14), [-half, half, 0, -half, -half, 0])(patterns, torch.zeros(2, 3))
    torch.testing.assert_close(turned, patterns.rot90(-1, (1, 2)), rtol=0, atol=1e-4)


def test_what_is_outside_repeats_the_edge():
    patterns = torch.rand(2, 9, 10)
    with torch.no_grad():
        moved = motion((9, 10), [0.0, 0, 50, 0, 0, 0])(patterns, torch.zeros(2, 3))
    torch.testing.assert_close(moved, patterns[:, :, -1:].expand(-1, -1, 10), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    moves = Motion(3, (9, 10)).to(dtype)
    moved = moves(torch.rand(2, 9, 10, dtype=dtype), torch.rand(2, 3, dtype=dtype))
    assert moved.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)


def test_new_axes_of_latents_move_nothing():
    net = build_network("compact", (16, 20), 4, counts=True)
    with torch.no_grad():
        net.background.uniform_(1, 2)
        net.motion.linear.weight.normal_()
        z = torch.randn(6, 4)
        before = net.decode(z)
        centre, axes = torch.randn(4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
        net.rotate_latents(centre, axes)
        after = net.decode(((z.double() - centre) @ axes).float())
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def moved_disc(shifts):
    y, x = np.mgrid[:24, :28]
    return torch.stack([
        torch.from_numpy(1 / (1 + np.exp(np.hypot(y - 11.5 - dy, x - 13.5 - dx) - 5))).float() for dx, dy in shifts
    ])  # fmt: skip


def test_shifts_that_are_linear_in_the_latents_are_found_at_the_start():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 3, generator=generator)
    shifts = z[:, :2] * 0.4 + torch.tensor([0.0, 0.3])
    patterns, moves = moved_disc(shifts.tolist()), Motion(3, (24, 28))
    moves.initialise(patterns, z)
    with torch.no_grad():
        found = -moves.linear(z)[:, [2, 5]]
    found, shifts = found - found.mean(0), shifts - shifts.mean(0)
    torch.testing.assert_close(found, shifts, rtol=0.15, atol=0.15)
    undone = moves.undo(patterns, z)
    assert undone.var(0).sum() < 0.1 * patterns.var(0).sum()
    assert moves.undo(patterns[:1], z[:1]).shape == (1, 24, 28)


def test_patterns_that_do_not_move_start_without_shifts():
    z = torch.randn(200, 3)
    patterns = (1 + z[:, :1, None] * 0.2) * moved_disc([(0, 0)])
    moves = Motion(3, (24, 28))
    moves.initialise(patterns, z)
    assert moves.linear(z).abs().max() < 1e-3


def test_descan_is_learnt_better_by_moving_patterns_than_by_drawing_them_anew(monkeypatch):
    scan = latentstem.simulate(
        (20, 18), (24, 24), dose=2000, structure="single crystal", descan=2.0, strain=0.0, seed=2
    )
    losses = {}
    for version in (2, 3):
        monkeypatch.setattr(run, "FORMAT_VERSION", version)
        losses[version] = min(train(scan.counts, epochs=4).history["val/loss"])
    assert losses[3] < losses[2]
