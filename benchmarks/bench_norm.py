"""Steps of training with our batch normalisation + activation and with torch's, in turn, on this CPU.

Retires `ops/norm_kernels.py` where torch's takes less than 1.1 times as long:
median of pairs over `--steps` steps, after three of warm-up.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from sightline.core.process import keep_freed_memory
from sightline.models import create, fused_norm

CASES = (("yolo11n", 320, 16, "bf16"), ("unet-small", 256, 8, "bf16"), ("yolo11n", 320, 16, "fp32"))
WARM_UP = 3


def targets(task: str, batch: int, side: int) -> dict[str, torch.Tensor]:
    if task == "semantic":
        return {"mask": torch.randint(0, 3, (batch, side, side))}
    boxes = torch.rand(8 * batch, 4) * side / 2
    boxes[:, 2:] += boxes[:, :2] + 10
    index = torch.arange(batch).repeat_interleave(8)
    return {"boxes": boxes, "labels": torch.randint(0, 3, (8 * batch,)), "batch_index": index}


def stepper(name: str, side: int, batch: int, precision: str) -> Callable[[], float]:
    """A function that makes one step and returns its seconds."""
    model = create(name, class_names=["a", "b", "c"], imgsz=side).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    images = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
    given = targets(model.task, batch, side)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            terms = model.loss(model(images), given, lambda total: total)
            torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - started

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    keep_freed_memory()
    can_fuse = fused_norm._can_fuse
    print("| model | side | precision | ours ms | torch ms | torch / ours, median of pairs | of the fastest steps |")
    print("|---|---|---|---|---|---|---|")
    for name, side, batch, precision in CASES:
        step = stepper(name, side, batch, precision)
        ours, theirs = [], []
        for _ in range(WARM_UP + steps):
            fused_norm._can_fuse = can_fuse
            ours.append(step())
            fused_norm._can_fuse = lambda x, norm: False
            theirs.append(step())
        fused_norm._can_fuse = can_fuse
        ours, theirs = ours[WARM_UP:], theirs[WARM_UP:]
        ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        fastest, medians = min(theirs) / min(ours), [statistics.median(times) * 1e3 for times in (ours, theirs)]
        row = (name, side, precision, *(f"{ms:.0f}" for ms in medians), f"{ratio:.2f}", f"{fastest:.2f}")
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
