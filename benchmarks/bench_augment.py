"""Augmented training images with boxes: ours beside torchvision.transforms.v2 doing the same operations, one thread.

Flips and affine maps of both are compared before the times are printed. Both start from the same images in memory and
draw their own values from the same ranges.
Run: python benchmarks/bench_augment.py [--quick] [--out FILE]
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from interleave import arguments, interleave, publish
from sightline.train.augment.augmenter import Augmenter
from sightline.train.augment.geometry import affine, flip, map_boxes, translate, warp
from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import Draw, Sample

SIZE_HW = (640, 640)
BOXES = 12
PAD = 114
USUAL = {"flip_lr": 0.5, "scale": 0.5, "translate": 0.1, "brightness": 0.3, "contrast": 0.3, "saturation": 0.4}
TURNED = USUAL | {"rotate": 15.0, "hue": 0.1}
DAMAGED = USUAL | {"blur": 1.0, "jpeg": 1.0}


def random_samples(rng: np.random.Generator, count: int) -> list[Sample]:
    """Smooth pictures with boxes of 20 to 200 pixels."""
    samples = []
    for row in range(count):
        coarse = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        corner, size = rng.uniform(0, 440, (BOXES, 2)), rng.uniform(20, 200, (BOXES, 2))
        samples.append(
            {
                "image": cv2.resize(coarse, SIZE_HW, interpolation=cv2.INTER_CUBIC),
                "boxes": np.concatenate([corner, corner + size], 1).astype(np.float32),
                "labels": rng.integers(0, 5, BOXES),
                "objects": np.arange(BOXES) + row * BOXES,
            }
        )
    return samples


Pair = tuple[tv_tensors.Image, dict[str, Any]]


def as_tensors(sample: Sample) -> Pair:
    image = tv_tensors.Image(torch.from_numpy(sample["image"]).permute(2, 0, 1).contiguous())
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(sample["boxes"]), format="XYXY", canvas_size=SIZE_HW)
    return image, {"boxes": boxes, "labels": torch.from_numpy(sample["labels"])}


def torchvision_of(policy: Augmentation) -> v2.Compose:
    """The operations of a policy, with boxes cut at the image and those below its smallest side left out."""
    steps = [
        v2.RandomHorizontalFlip(policy.flip_lr),
        v2.RandomAffine(
            policy.rotate,
            (policy.translate, policy.translate),
            (1 - policy.scale, 1 + policy.scale),
            interpolation=InterpolationMode.BILINEAR,
            fill=PAD,
        ),
        v2.ClampBoundingBoxes(),
        v2.SanitizeBoundingBoxes(policy.min_side_px),
        v2.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue),
    ]
    if policy.blur:  # OpenCV takes a kernel of this many pixels for the largest sigma
        steps.append(v2.GaussianBlur(2 * round(3 * policy.blur_sigma) + 1, (0.1, policy.blur_sigma)))
    if policy.jpeg:
        steps.append(v2.JPEG((policy.jpeg_quality, 95)))
    return v2.Compose(steps)


def check(sample: Sample) -> None:
    """Pixels and boxes of a flip are the same; those of an affine map up to rounding."""
    image, labels = as_tensors(sample)
    middle = (SIZE_HW[1] / 2, SIZE_HW[0] / 2)
    flipped = flip(SIZE_HW, True, False)
    moved = translate(30, -20) @ affine(SIZE_HW, 1.2, 10.0, (0, 0))
    # Their angle turns clockwise, ours counter-clockwise; their centre is a place on the picture, as ours.
    how: dict[str, Any] = {"angle": -10.0, "translate": [30, -20], "scale": 1.2, "shear": [0.0, 0.0]}
    theirs = (
        (functional.horizontal_flip(image), functional.horizontal_flip(labels["boxes"])),
        (
            functional.affine(image, **how, interpolation=InterpolationMode.BILINEAR, fill=[PAD], center=middle),
            functional.affine(labels["boxes"], **how, center=middle),
        ),
    )
    for what, matrix, (their_image, their_boxes), most in zip(
        ("flip", "affine"), (flipped, moved), theirs, (0.0, 1.0), strict=True
    ):
        pixels = warp(sample["image"], matrix, SIZE_HW, cv2.INTER_LINEAR, PAD)
        apart = np.abs(pixels.astype(float) - their_image.permute(1, 2, 0).numpy()).mean()
        boxes = map_boxes(sample["boxes"], matrix)
        boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clip(0, SIZE_HW[1]), boxes[:, 1::2].clip(0, SIZE_HW[0])
        off = np.abs(boxes - functional.clamp_bounding_boxes(their_boxes).numpy()).max()
        if apart > most or off > 1e-2:
            raise SystemExit(f"{what}: pixels differ by {apart:.2f}, boxes by {off:.3f}, the times mean nothing")


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    samples = random_samples(np.random.default_rng(0), 4 if options.quick else 20)
    check(samples[0])
    tensors = [as_tensors(sample) for sample in samples]
    seeds = np.arange(len(samples))
    rows = []
    for what, values in (("flip, affine, colour", USUAL), ("+ rotation, hue", TURNED), ("+ blur, JPEG", DAMAGED)):
        policy = Augmentation.load({**Augmentation.none().model_dump(), **values})
        ours, theirs = ours_of(policy, samples, seeds), torchvision_of(policy)
        torch.manual_seed(0)
        result = interleave(ours, lambda work=theirs: [work(*pair) for pair in tensors], repeats=options.repeats)
        per_image = {key: value / len(samples) if key.endswith("_s") else value for key, value in result.items()}
        rows.append(per_image | {"what": f"{what}, ms an image", "peer": "torchvision"})
    publish(rows, ["torch", "torchvision", "opencv-python-headless", "numpy", "simplejpeg"], options.out)


def ours_of(policy: Augmentation, samples: list[Sample], seeds: NDArray[np.int64]) -> Callable[[], Any]:
    whole = [(0, 0, SIZE_HW[1], SIZE_HW[0])] * len(samples)
    augmenter = Augmenter(policy, lambda row: samples[row], len(samples), PAD, whole)
    return lambda: [augmenter.sample(Draw(row, seed)) for row, seed in enumerate(seeds.tolist())]


if __name__ == "__main__":
    main()
