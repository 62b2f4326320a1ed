"""`sightline export`."""

from pathlib import Path

import numpy as np

import sightline.data
import sightline.deploy
from sightline.cli.console import Count, JsonFlag, emit_json, show_table
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import check_writable, refuse_overwriting
from sightline.core.runs import RunFolder

__all__ = ["export", "parity_images"]


def export(
    model: str,
    data: str,
    *,
    out: str | None = None,
    images: Count = 8,
    nms: bool = False,
    record: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Write an ONNX file of a model, only if it gives the model's own answers on real images.

    Parameters
    ----------
    model
        Weights to export (.safetensors).
    data
        Data set whose images are run through both.
    out
        The ONNX file; beside the weights without it.
    images
        How many images are compared, spread over the data set.
    nms
        Of a detector: suppression within the graph, at the model's operating point, for one image at a time; the output
        is (1, max_det, 6), rows of x1, y1, x2, y2, score, class.
    record
        Folder of a run: the comparison is kept there as export.json, for its report.
    """
    run = None if record is None else RunFolder.open(record)
    target = Path(out) if out is not None else Path(model).with_suffix(".onnx")
    dataset = sightline.data.read_dataset(data)
    refuse_overwriting([target], [model, *sightline.data.dataset_files(dataset, data)])
    check_writable([target])
    result = sightline.deploy.export_onnx(model, target, images=_spread(dataset, images, data), nms=nms)
    if run is not None:
        run.keep("export.json", result)
    if json:
        emit_json(result)
    else:
        frame = result.to_frame()
        show_table(f"{target}: agrees with {model}", frame.columns, frame.rows())
    return 0


def parity_images(data: str, count: int) -> list[Path]:
    """`count` image files spread evenly over a data set."""
    return _spread(sightline.data.read_dataset(data), count, data)


def _spread(dataset: Dataset, count: int, data: str) -> list[Path]:
    if not len(dataset):
        raise DataError("a data set to compare on must have images, got none", where=data)
    rows = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    return [dataset.image_path(dataset.images["path"][int(row)]) for row in rows]
