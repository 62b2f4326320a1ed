"""Blocks: fusion equals the unfused block; attention equals torch's own; the CSP blocks join what they say."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from sightline.models import blocks
from sightline.models.yolo import blocks as yolo_blocks


def trained_statistics(module: nn.Module) -> nn.Module:
    """Batch normalisations as after training: statistics, gain and shift away from their initial 0 and 1."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.3, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
    return module.eval()


@pytest.mark.parametrize(
    "block",
    [
        lambda: blocks.ConvBnAct(8, 16, 3, 2),
        lambda: blocks.ConvBnAct(8, 8, 3, groups=8, act=False),
        lambda: blocks.DoubleConv(8, 12),
        lambda: yolo_blocks.C3k2(8, 16, 2, deep=True),
        lambda: yolo_blocks.C2PSA(8, 8, 1),
        lambda: yolo_blocks.RepConv(8, 12),
        lambda: yolo_blocks.RepConv(8, 8, (7, 3), groups=8),
    ],
)
def test_fused_block_equals_block_without_batch_norm(block):
    torch.manual_seed(0)
    module = trained_statistics(block())
    before = copy.deepcopy(module.state_dict())
    fused = blocks.fuse(module)
    x = torch.randn(2, 8, 12, 10)
    with torch.no_grad():
        assert (fused(x) - module(x)).abs().max() < 1e-5
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items()), "fuse must not touch its argument"


def test_attention_equals_scaled_dot_product_attention_of_torch():
    torch.manual_seed(0)
    block = yolo_blocks.Attention(128).eval()
    x = torch.randn(2, 128, 5, 4)
    with torch.no_grad():
        # Per head of 64 values: 32 query, 32 key, 64 value channels.
        query, key, value = block.qkv(x).reshape(2, 2, 128, 20).transpose(2, 3).split([32, 32, 64], dim=-1)
        attended = functional.scaled_dot_product_attention(query, key, value)  # torch's own, scale 1/sqrt(32)
        values = value.transpose(2, 3).reshape(2, 128, 5, 4)
        expected = block.project(attended.transpose(2, 3).reshape(2, 128, 5, 4) + block.position(values))
        assert torch.allclose(block(x), expected, atol=1e-5)


def test_sppf_sees_thirteen_cells():
    block = yolo_blocks.SPPF(8, 8).eval()
    x = torch.randn(1, 8, 31, 31)
    changed = x.clone()
    changed[:, :, 15, 15] += 100
    with torch.no_grad():
        rows = (block(x) - block(changed)).abs().amax((0, 1)).amax(1).nonzero().squeeze(1)
    assert (int(rows.min()), int(rows.max())) == (15 - 6, 15 + 6)


def test_bottleneck_adds_its_input():
    block = yolo_blocks.Bottleneck(8, 0.5).eval()
    nn.init.zeros_(block.expand.conv.weight)
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(block(x), x)


def test_yolo_batch_norm_has_the_published_constants():
    bn = blocks.ConvBnAct(4, 4).bn
    assert (bn.eps, bn.momentum) == (1e-3, 0.03)
