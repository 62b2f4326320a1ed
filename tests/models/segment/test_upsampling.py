"""Ways to make maps larger: against torch, by their formula, and back."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional

from sightline.models.segment.upsampling import (
    PoolWithPlaces,
    Upsampling,
    bed_of_nails,
    bilinear_kernel,
    unpool,
    upsampler,
)


@pytest.mark.parametrize("way", get_args(Upsampling))
def test_all_double_the_sides(way):
    assert upsampler(3, 5, way)(torch.rand(2, 3, 4, 7)).shape == (2, 5, 8, 14)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (4, 2, 1), (3, 2, 1), (64, 32, 16), (3, 1, 0)])
@pytest.mark.parametrize("size", [1, 5, 8])
def test_the_size_of_a_transposed_convolution_is_the_formula_of_the_docstring(kernel, stride, padding, size):
    made = nn.ConvTranspose2d(1, 1, kernel, stride, padding)(torch.rand(1, 1, size, size))
    assert made.shape[-1] == (size - 1) * stride - 2 * padding + kernel


def test_a_bed_of_nails_keeps_the_values_and_their_places():
    x = torch.rand(2, 3, 4, 5)
    made = bed_of_nails(x)
    assert torch.equal(made[..., ::2, ::2], x)
    assert made.sum() == pytest.approx(x.sum().item())


def test_unpooling_is_torchs():
    x = torch.randn(2, 3, 8, 6)
    x[0, 0, :2, :2] = 1.0  # equal values: the first is taken, as torch does
    values, places = PoolWithPlaces()(x)
    expected, indices = functional.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(values, expected)
    assert torch.equal(unpool(values, places), functional.max_unpool2d(expected, indices, 2))


@pytest.mark.parametrize("factor", [2, 8])
def test_the_bilinear_kernel_resizes_as_torch_does_inside(factor):
    x = torch.rand(1, 3, 6, 6)
    made = functional.conv_transpose2d(x, bilinear_kernel(3, factor), stride=factor, padding=factor // 2)
    expected = functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    assert torch.allclose(made[inside], expected[inside], atol=1e-6)
