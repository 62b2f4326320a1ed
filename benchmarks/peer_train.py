"""Train yolo11n from scratch with Ultralytics, in the peers' environment, and print images/s of each epoch as JSON."""

import json
import os
import sys
import time

os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}

import torch
from ultralytics import YOLO


def main(data: str, folder: str, side: int, epochs: int, images: int, threads: int) -> None:
    """Epochs without validation; `threads` of 0 leaves the peer its own choice."""
    marks: list[float] = []
    model = YOLO("yolo11n.yaml")
    if threads:
        model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(threads))
    model.add_callback("on_train_epoch_start", lambda trainer: marks.append(time.perf_counter()))
    model.add_callback("on_train_epoch_end", lambda trainer: marks.append(time.perf_counter()))
    model.train(
        data=data, epochs=epochs, imgsz=side, batch=16, device="cpu", workers=0, val=False, plots=False,
        pretrained=False, project=folder, exist_ok=True, verbose=False, seed=0,
    )  # fmt: skip
    speeds = [images / (end - start) for start, end in zip(marks[::2], marks[1::2], strict=True)]
    print(json.dumps({"images_per_s": speeds, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(value) for value in sys.argv[3:7]))
