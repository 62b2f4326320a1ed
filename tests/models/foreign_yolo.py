"""A YOLOv8n under the names and in the order its own tool gives it, and the checkpoint that tool would write."""

import sys
import types
from collections import OrderedDict

import torch
from torch import nn


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c, add):
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c, 3), Conv(c, c, 3), add

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C2f(nn.Module):
    def __init__(self, c1, c2, n, add):
        super().__init__()
        self.c = c2 // 2
        self.cv1, self.cv2 = Conv(c1, c2), Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Bottleneck(self.c, add) for _ in range(n))

    def forward(self, x):
        parts = list(self.cv1(x).split(self.c, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c // 2), Conv(c * 2, c)

    def forward(self, x):
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.cv2(torch.cat(parts, 1))


class Detect(nn.Module):
    def __init__(self, nc, widths):
        super().__init__()
        self.cv2 = nn.ModuleList(nn.Sequential(Conv(c, 64, 3), Conv(64, 64, 3), nn.Conv2d(64, 64, 1)) for c in widths)
        self.cv3 = nn.ModuleList(nn.Sequential(Conv(c, 64, 3), Conv(64, 64, 3), nn.Conv2d(64, nc, 1)) for c in widths)
        self.dfl = nn.Module()
        self.dfl.conv = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
        self.dfl.conv.weight.data[:] = torch.arange(16.0).reshape(1, 16, 1, 1)
        self.anchors = torch.empty(0)  # an attribute that is no buffer

    def forward(self, levels):
        """Boxes (B, A, 4) as centre and size, and scores (B, A, C)."""
        boxes, scores = [], []
        for stride, x, box, cls in zip((8, 16, 32), levels, self.cv2, self.cv3, strict=True):
            shares = box(x).unflatten(1, (4, 16)).softmax(2)
            left, top, right, bottom = (shares * torch.arange(16.0).reshape(1, 1, 16, 1, 1)).sum(2).unbind(1)
            y, column = torch.meshgrid(torch.arange(x.shape[2]) + 0.5, torch.arange(x.shape[3]) + 0.5, indexing="ij")
            box_of = torch.stack((column - left, y - top, column + right, y + bottom), 1) * stride
            centre, size = (box_of[:, :2] + box_of[:, 2:]) / 2, box_of[:, 2:] - box_of[:, :2]
            boxes.append(torch.cat((centre, size), 1).flatten(2))
            scores.append(cls(x).sigmoid().flatten(2))
        return torch.cat((torch.cat(boxes, 2), torch.cat(scores, 2)), 1).transpose(1, 2)


class Proto(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.cv1, self.upsample = Conv(c, c, 3), nn.ConvTranspose2d(c, c, 2, 2)
        self.cv2, self.cv3 = Conv(c, c, 3), Conv(c, 32)

    def forward(self, x):
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))


class Segment(Detect):
    def __init__(self, nc, widths):
        super().__init__(nc, widths)
        self.proto = Proto(widths[0])
        self.cv4 = nn.ModuleList(nn.Sequential(Conv(c, 32, 3), Conv(32, 32, 3), nn.Conv2d(32, 32, 1)) for c in widths)

    def forward(self, levels):
        """Beside what `Detect` gives coefficients, (B, A, 4 + C + 32) in all, and prototypes (B, 32, H / 4, W / 4)."""
        taken = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv4, levels, strict=True)], 2)
        return torch.cat((super().forward(levels), taken.transpose(1, 2)), 2), self.proto(levels[0])


class DetectionModel(nn.Module):
    def __init__(self, nc=2, names=("cell", "other"), head=Detect):
        super().__init__()
        up = nn.Upsample(scale_factor=2)
        blocks = [
            Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), C2f(32, 32, 1, True), Conv(32, 64, 3, 2), C2f(64, 64, 2, True),
            Conv(64, 128, 3, 2), C2f(128, 128, 2, True), Conv(128, 256, 3, 2), C2f(256, 256, 1, True), SPPF(256),
            up, nn.Identity(), C2f(384, 128, 1, False), up, nn.Identity(), C2f(192, 64, 1, False),
            Conv(64, 64, 3, 2), nn.Identity(), C2f(192, 128, 1, False), Conv(128, 128, 3, 2), nn.Identity(),
            C2f(384, 256, 1, False), head(nc, (64, 128, 256)),
        ]  # fmt: skip
        self.model = nn.Sequential(*blocks)
        self.names = dict(enumerate(names))
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.yaml = {"yaml_file": "yolov8n-seg.yaml" if head is Segment else "yolov8n.yaml", "nc": nc}
        self.task = "segment" if head is Segment else "detect"

    def forward(self, x):
        kept = []
        for number, block in enumerate(self.model):
            other = {11: 6, 14: 4, 17: 12, 20: 9}.get(number)
            if other is not None:
                x = torch.cat((x, kept[other]), 1)
            elif number == 22:
                return self.model[22]([kept[15], kept[18], kept[21]])
            x = block(x)
            kept.append(x)
        raise AssertionError


def random_model(seed, **given):
    """Weights and statistics that nobody would take for those of another seed."""
    torch.manual_seed(seed)
    model = DetectionModel(**given).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            module.num_batches_tracked.fill_(7)
    return model


def save_as_its_tool(path, values):
    """`torch.save`, with the classes above under the names they have in their tool."""
    names = {
        "ultralytics": [],
        "ultralytics.nn": [],
        "ultralytics.nn.tasks": [DetectionModel],
        "ultralytics.nn.modules": [Conv, Bottleneck, C2f, SPPF, Detect, Proto, Segment],
    }
    kept = {}
    try:
        for module, kinds in names.items():
            sys.modules[module] = types.ModuleType(module)
            for kind in kinds:
                kept[kind] = kind.__module__
                kind.__module__ = module
                setattr(sys.modules[module], kind.__name__, kind)
        torch.save(values, path)
    finally:
        for kind, module in kept.items():
            kind.__module__ = module
        for module in names:
            sys.modules.pop(module, None)
    return path


def checkpoint_of(model, ema=None, **changes):
    """What the tool keeps beside the model."""
    values = {
        "epoch": 4,
        "model": None if model is None else model.half(),
        "ema": None if ema is None else ema.half(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "train_args": {"imgsz": 96, "data": "/home/somebody/sets/bccd/data.yaml", "model": "yolov8n.yaml"},
        "version": "8.4.0",
        "date": "2026-11-30",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    }
    return {**values, **changes}


def fused(model):
    """The tensors of the model with names of folded convolutions."""
    kept = OrderedDict()
    for name, tensor in model.state_dict().items():
        if ".bn." not in name:
            kept[name] = tensor
    return kept
