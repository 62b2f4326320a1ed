"""Loading training batches in one process: ours beside a torch DataLoader with torchvision's v2 transforms.

Both read the same generated 720p JPEGs with the same boxes, on one thread, in batches of 16. Ours runs its default
augmentation (flip, scaling and shifting, colour) and is measured decoding each time, decoding scaled, from the disk
cache and from memory. The peer decodes, letterboxes, flips and jitters colours by the same amounts, each time: it has
no cache, and neither scales nor shifts. The floor is reading the compressed data alone: strict decoding of the same
files to gray at 1/8 scale.

Run: python benchmarks/bench_loader.py [--quick] [--repeats N] [--out FILE]
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import simplejpeg
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from interleave import arguments, interleave, publish
from sightline.core.dataset import Dataset
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.synth import generate
from sightline.train import Augmentation
from sightline.train.data.images import NetworkImages, SeededBatches, build_loader
from sightline.train.data.store import Keeping

SIZE_HW = (720, 1280)
BATCH = 16
SIDES = (320, 640)


class PeerImages(torch.utils.data.Dataset):
    """The same files and boxes, through torchvision."""

    def __init__(self, dataset: Dataset, side: int) -> None:
        self.paths = [str(dataset.root / path) for path in dataset.images["path"]]
        by_image = dataset.usable_objects.partition_by("image_id", as_dict=True)
        corners = ["x1", "y1", "x2", "y2"]
        none = dataset.usable_objects.clear()
        self.boxes = [
            torch.tensor(by_image.get((image,), none).select(corners).to_numpy()).float()
            for image in dataset.images["image_id"]
        ]
        factor = side / max(SIZE_HW)
        height, width = (round(s * factor) for s in SIZE_HW)
        top, left = (side - height) // 2, (side - width) // 2
        self.transforms = v2.Compose(
            [
                v2.Resize((height, width), antialias=True),
                v2.Pad([left, top, side - width - left, side - height - top], fill=114),
                v2.RandomHorizontalFlip(0.5),
                v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.4),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = tv_tensors.Image(decode_image(self.paths[row], ImageReadMode.RGB))
        boxes = tv_tensors.BoundingBoxes(self.boxes[row], format="XYXY", canvas_size=SIZE_HW)
        return self.transforms(image, boxes)


def stack(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, boxes = zip(*samples, strict=True)
    return torch.stack(images), torch.cat(boxes)


def pass_over(loader: DataLoader[Any], count: int) -> Callable[[], None]:
    def work() -> None:
        seen = sum(len(batch.rows) if hasattr(batch, "rows") else len(batch[0]) for batch in loader)
        assert seen == count

    return work


def our_loader(dataset: Dataset, side: int, keeping: Keeping) -> DataLoader[Any]:
    images = NetworkImages(dataset, Preprocess(size_hw=(side, side)), Augmentation(), keeping)
    if keeping.in_memory or keeping.folder is not None:
        images.store.fill(1, lambda done: None)
    return build_loader(images, SeededBatches(len(images), BATCH, 0, shuffle=True), workers=0)


def read_all(dataset: Dataset) -> Callable[[], None]:
    stored = [(dataset.root / path).read_bytes() for path in dataset.images["path"]]
    height, width = (-(-side // 8) for side in SIZE_HW)

    def work() -> None:
        for data in stored:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=height, min_width=width, min_factor=8, strict=True)

    return work


def measure(dataset: Dataset, cache: Path, repeats: int) -> list[dict[str, Any]]:
    ways = {
        "decoded each time": Keeping(),
        "decoded scaled": Keeping(decode="scaled"),
        "disk cache": Keeping(folder=cache),
        "memory": Keeping(in_memory=True),
    }
    count, name = len(dataset), f"torchvision {torchvision.__version__}"
    rows = []
    for side in SIDES:
        peer_loader = DataLoader(PeerImages(dataset, side), BATCH, shuffle=True, collate_fn=stack)
        peer = pass_over(peer_loader, count)
        floor = interleave(read_all(dataset), peer, repeats=repeats)
        rows.append({"what": f"{side}, floor: entropy decoding alone", "peer": name} | floor)
        for way, keeping in ways.items():
            ours = pass_over(our_loader(dataset, side, keeping), count)
            rows.append({"what": f"{side}, {way}", "peer": name} | interleave(ours, peer, repeats=repeats))
        for row in rows[-len(ways) - 1 :]:
            row |= {"images": count, "ours_per_s": count / row["ours_s"], "peer_per_s": count / row["peer_s"]}
            row["of_floor"] = floor["ours_s"] / row["ours_s"]
            print(
                f"{row['what']}: {row['ours_per_s']:.0f} images/s, {row['of_floor']:.2f} of the floor; "
                f"{name} {row['peer_per_s']:.0f} images/s"
            )
    return rows


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    count = 16 if options.quick else 80
    with tempfile.TemporaryDirectory() as name:
        generate("traffic", Path(name) / "data", images=count, size_hw=SIZE_HW, seed=0)
        dataset = read_dataset(Path(name) / "data")
        kilobytes = sum((dataset.root / p).stat().st_size for p in dataset.images["path"]) / len(dataset) / 1000
        print(f"{len(dataset)} JPEGs of {SIZE_HW[1]} × {SIZE_HW[0]}, {kilobytes:.0f} KB on average")
        rows = measure(dataset, Path(name) / "cache", options.repeats)
    packages = ["torch", "torchvision", "opencv-python-headless", "simplejpeg", "numpy"]
    publish(rows, packages, options.out)


if __name__ == "__main__":
    main()
