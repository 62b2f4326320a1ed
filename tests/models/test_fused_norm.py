"""Batch normalisation with its activation: the CPU's own kernels against torch's operations in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from torch import nn
from torch.nn import functional

from sightline.models import create, fused_norm
from sightline.models.fused_norm import norm_act
from sightline.ops.vector_math import exp32, load, store

ACTIVATIONS = {"none": lambda x: x, "relu": functional.relu, "silu": functional.silu}
pytestmark = pytest.mark.skipif(fused_norm._team() is None, reason="torch runs on another thread library here")


def normalisation(channels, dtype=torch.float32):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    return norm.to(dtype)


def maps(shape, dtype, mean=0.5):
    return (torch.randn(shape) * 2 + mean).to(dtype).contiguous(memory_format=torch.channels_last)


def run(x, gradient, activation, norm, apply):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = apply(x, norm)
    out.backward(gradient.to(out.dtype))
    return [out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


def compare(shape, dtype, activation, tolerance, mean=0.5):
    torch.manual_seed(0)
    x, gradient = maps(shape, dtype, mean), maps(shape, dtype)
    norm = normalisation(shape[1])
    assert fused_norm._can_fuse(x, norm)
    ours = run(x, gradient, activation, norm, lambda x, norm: norm_act(x, norm, activation))
    assert int(norm.num_batches_tracked) == 1
    reference = normalisation(shape[1], torch.float64)
    theirs = run(x.double(), gradient.double(), activation, reference, lambda x, n: ACTIVATIONS[activation](n(x)))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).abs().max() <= tolerance * (b.abs().max() + 1)


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 8e-3)])
@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 70), st.integers(3, 13), st.integers(3, 17))
def test_it_equals_torch_in_float64(activation, dtype, tolerance, batch, channels, height, width):
    compare((batch, channels, height, width), dtype, activation, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_equals_torch(dtype):
    # In float64 a value may lie on the other side of the ramp's corner: the reference takes ours' own side.
    torch.manual_seed(0)
    x, gradient = maps((3, 24, 9, 7), dtype), maps((3, 24, 9, 7), dtype)
    norm, reference = normalisation(24), normalisation(24)
    ours = run(x, gradient, "relu", norm, lambda x, n: norm_act(x, n, "relu"))
    linear = run(x, gradient, "none", normalisation(24), lambda x, n: norm_act(x, n, "none"))
    assert torch.equal(ours[0], linear[0].relu())
    passed = torch.where(ours[0] > 0, gradient, 0)
    theirs = run(x.float(), passed.float(), "none", reference, lambda x, n: n(x))
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert (a.float() - b).abs().max() <= (2e-5 if dtype == torch.float32 else 8e-3) * (b.abs().max() + 1e-6)


def test_values_far_from_zero_keep_their_variance():
    compare((4, 16, 20, 20), torch.float32, "none", 2e-3, mean=5000.0)


def test_a_number_that_is_none_stays_one():
    x = maps((2, 8, 4, 4), torch.float32)
    x[1, 3, 2, 2] = float("nan")
    out = norm_act(x, normalisation(8), "silu")
    assert out[:, 3].isnan().all()
    assert not out[:, :3].isnan().any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_rounding_alone(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compare((4, 12, 11, 6), torch.float32, "silu", 2e-5)
        first, second = (norm_act(maps_of_seed(), normalisation(12), "silu") for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(first, second)


def maps_of_seed():
    torch.manual_seed(3)
    return maps((4, 12, 11, 6), torch.float32)


def test_torch_takes_what_the_kernels_cannot():
    channels_first = torch.randn(2, 8, 5, 5)
    assert not fused_norm._can_fuse(channels_first, normalisation(8))
    last = maps((2, 8, 5, 5), torch.float32)
    assert not fused_norm._can_fuse(last, normalisation(8).eval())
    assert not fused_norm._can_fuse(last, nn.BatchNorm2d(8, momentum=None))
    assert not fused_norm._can_fuse(last, nn.BatchNorm2d(8, affine=False))
    assert not fused_norm._can_fuse(last.double(), normalisation(8).double())
    assert torch.equal(norm_act(last, nn.Identity(), "relu"), last.relu())


@pytest.mark.parametrize("name", ["yolo11n", "unet-small"])
def test_a_whole_network_learns_the_same_without_it(name, monkeypatch):
    gradients = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = (
            create(name, class_names=("background", "thing"), imgsz=64).train().to(memory_format=torch.channels_last)
        )
        if not fused:
            monkeypatch.setattr(fused_norm, "_can_fuse", lambda x, norm: False)
        images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        raw = model(images)
        total = raw.logits.square().sum() if name == "yolo11n" else raw.square().sum()
        total.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for key, value in gradients[0].items():
        other = gradients[1][key]
        assert (value - other).norm() <= 5e-2 * other.norm() + 1e-3, key  # ReLUs near their corner differ


@njit(error_model="numpy")
def _round_trip(values, bits, back, powers):
    for i in range(len(values)):
        bits[i] = store(values[i], bits[i])
        back[i] = load(bits[i])
        powers[i] = exp32(values[i])


def test_the_instructions_agree_with_torch_and_numpy():
    """torch 2.14 rounds to bfloat16; numpy's float64 `exp`."""
    special = [0.0, -0.0, 1.0, -1.0, 3e38, 1e-30, 1.00390625, 1.01171875, float("inf"), float("nan")]
    values = np.array([*special, *np.random.default_rng(0).normal(0, 30, 1000)], np.float32)
    bits, back, powers = np.zeros(len(values), np.uint16), np.empty_like(values), np.empty_like(values)
    _round_trip(values, bits, back, powers)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(back, expected)
    held = np.clip(values.astype(np.float64), -87, 87)
    finite = ~np.isnan(values)
    np.testing.assert_allclose(powers[finite], np.exp(held[finite]), rtol=3e-7)
