"""Train a U-Net in a plain torch loop, in the peers' environment, and print images/s of each epoch as JSON.

What a good tutorial writes: torchvision's decoding and v2 transforms, a DataLoader, BCE + Dice, AdamW. The network has
the widths of our unet-small; `best` adds bf16 autocast and channels-last maps.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.io import decode_image
from torchvision.transforms import v2

WIDTHS = (16, 32, 64, 128, 256)


def block(before: int, width: int) -> nn.Sequential:
    """Twice convolution, batch normalisation, ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """Five levels, a bottleneck, transposed convolutions upwards."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(block(a, b) for a, b in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True))
        self.middle = block(WIDTHS[-1], 2 * WIDTHS[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(WIDTHS))
        self.join = nn.ModuleList(block(2 * w, w) for w in reversed(WIDTHS))
        self.head = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level in self.down:
            skips.append(level(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = self.middle(x)
        for up, join, skip in zip(self.up, self.join, reversed(skips), strict=True):
            x = join(torch.cat((skip, up(x)), 1))
        return self.head(x)


class Pictures(Dataset):
    """Images with masks of 0 and 1, flipped, scaled, shifted and recoloured at random."""

    def __init__(self, root: Path, side: int) -> None:
        self.images = sorted((root / "images" / "train").glob("*.jpg"))
        self.masks = [root / "masks" / "train" / f"{path.stem}.png" for path in self.images]
        self.change = v2.Compose(
            [
                v2.Resize((side, side)),
                v2.RandomHorizontalFlip(),
                v2.RandomAffine(0, translate=(0.1, 0.1), scale=(0.5, 1.5)),
                v2.ColorJitter(brightness=0.4, saturation=0.7),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = tv_tensors.Image(decode_image(str(self.images[index])))
        mask = tv_tensors.Mask(decode_image(str(self.masks[index])))
        return self.change(image, mask)


def loss_of(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice."""
    logits, truth = logits.float().flatten(), (mask > 0).flatten().float()
    chance = logits.sigmoid()
    dice = (2 * (chance * truth).sum() + 1) / (chance.sum() + truth.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, truth) + 1 - dice


def main(data: str, side: int, epochs: int, best: int) -> None:
    """Epochs without validation, on as many threads as torch takes."""
    torch.manual_seed(0)
    layout = torch.channels_last if best else torch.contiguous_format
    network = Network().to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loader = DataLoader(Pictures(Path(data), side), batch_size=8, shuffle=True)
    speeds = []
    for _ in range(epochs):
        started, count = time.perf_counter(), 0
        for images, masks in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(best)):
                logits = network(images.to(memory_format=layout))
            optimizer.zero_grad(set_to_none=True)
            loss_of(logits, masks).backward()
            optimizer.step()
            count += len(images)
        speeds.append(count / (time.perf_counter() - started))
    print(json.dumps({"images_per_s": speeds, "parameters": sum(p.numel() for p in network.parameters())}))


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:5]))
