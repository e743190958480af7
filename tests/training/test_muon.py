"""The optimiser against what it is made of: singular value decompositions, and PyTorch's Adam."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import train
from latentstem.errors import CheckpointError
from latentstem.training.muon import Muon

SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 40)] * 2),
    st.tuples(st.integers(1, 20), st.integers(1, 5), *[st.integers(1, 3)] * 2),
)


def step_of(weight, gradient, *, matrix, steps=1, decay=0.0):
    """What so many steps with the same gradient make of a weight."""
    weight = weight.clone().requires_grad_()
    weight.grad = gradient.clone()
    optimiser = Muon([weight] if matrix else [], [] if matrix else [weight], lr=0.01, weight_decay=decay)
    for _ in range(steps):
        optimiser.step()
    return weight.detach()


@settings(max_examples=60, deadline=None)
@given(
    shape=SHAPES, seed=st.integers(0, 99), scale=st.sampled_from([1e-6, 1.0, 1e6]), steps=st.integers(1, 3)
)
def test_a_step_of_a_matrix_has_its_directions_alike(shape, seed, scale, steps):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64).float()
    moved = -step_of(torch.zeros(shape), scale * gradient, matrix=True, steps=steps).flatten(1).double()
    u, s, v = torch.linalg.svd(gradient.flatten(1).double(), full_matrices=False)
    found = u.T @ (moved / (0.01 * max(moved.shape) ** 0.5 * steps)) @ v.T
    sure = s > 0.02 * s.norm()
    assert (found.diagonal()[sure] > 0.65).all()
    assert (found.diagonal() < 1.25).all()
    assert (found - found.diagonal().diag()).abs().max() < 1e-3


def test_the_mean_square_of_a_step_is_the_learning_rate():
    gradient = torch.randn(128, 512, generator=torch.Generator().manual_seed(0))
    moved = step_of(torch.zeros(128, 512), gradient, matrix=True)
    assert moved.square().mean().sqrt() == pytest.approx(0.01, rel=0.15)


def test_matrices_decay_and_without_a_gradient_nothing_else_happens():
    weight = torch.ones(3, 4)
    torch.testing.assert_close(step_of(weight, torch.zeros(3, 4), matrix=True, decay=5.0), 0.95 * weight)
    torch.testing.assert_close(step_of(weight, torch.zeros(3, 4), matrix=False, decay=5.0), weight)
    torch.testing.assert_close(step_of(weight, 1e-14 * weight, matrix=True), weight, atol=1e-4, rtol=0)


def test_the_rest_is_trained_by_adam_ten_times_as_fast():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.ones(5, requires_grad=True) for _ in range(2))
    muon, adam = (
        Muon([], [ours], lr=1e-3, weight_decay=5.0),
        torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99)),
    )
    for _ in range(7):
        ours.grad = torch.randn(5, generator=generator)
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_it_goes_on_from_its_state():
    generator = torch.Generator().manual_seed(0)
    matrix, vector = torch.ones(3, 4, requires_grad=True), torch.ones(5, requires_grad=True)
    optimiser = Muon([matrix], [vector], lr=1e-2, weight_decay=0.1)
    gradients = [[torch.randn(w.shape, generator=generator) for w in (matrix, vector)] for _ in range(4)]

    def run(optimiser, weights, steps):
        for step in steps:
            for weight, gradient in zip(weights, step, strict=True):
                weight.grad = gradient
            optimiser.step()

    run(optimiser, (matrix, vector), gradients[:2])
    other, another = (w.detach().clone().requires_grad_() for w in (matrix, vector))
    again = Muon([other], [another], lr=1.0, weight_decay=0.0)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    run(optimiser, (matrix, vector), gradients[2:])
    run(again, (other, another), gradients[2:])
    assert torch.equal(matrix, other)
    assert torch.equal(vector, another)


def test_a_run_with_another_optimiser_is_not_resumed(scan, tmp_path):
    """Such as one of an earlier version."""
    train(scan, epochs=1, output_dir=tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        del group["matrices"]
    torch.save(content, last)
    with pytest.raises(CheckpointError, match=r"trained with muon.*with another optimiser.*init_from"):
        train(scan, resume_from=last)
