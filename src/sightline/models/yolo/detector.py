"""The network of every YOLO: a table of rows, and a head that reads its three last levels, learns and decodes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.metadata import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.models.assignment import AssignedMeter
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.yolo.head import STRIDES, DetectHead
from sightline.models.yolo.mask_head import MaskHead
from sightline.models.yolo.obb_head import ObbHead
from sightline.models.yolo.plan import LEVELS, Row, add_rows, run_rows
from sightline.models.yolo.pose_head import PoseHead

__all__ = ["Head", "MakeHead", "YoloDetector"]


class Head(Protocol):
    """What a head offers beside being a module: which tensors depend on the classes, loss and decoding.

    It may have an `operating_point` and a meter `assigned`, as a `Model` may.
    One that is not for the task "detect" has a `task`.
    """

    class_tensors: tuple[str, ...]

    def __call__(self, features: list[Tensor]) -> Any:
        """Raw outputs of the levels, finest first."""
        ...

    def loss(self, raw: Any, targets: Targets, total: Total = ...) -> dict[str, Tensor]:
        """As `Model.loss`."""
        ...

    def decode(self, raw: Any) -> tuple[Tensor, ...]:
        """As `Model.decode`."""
        ...


MakeHead = Callable[..., Any]
"""Makes a `Head` for the levels' widths and a number of classes; keywords say what it learns by."""
FULL_HEAD: MakeHead = partial(DetectHead, light=False)
FULL_MASK_HEAD: MakeHead = partial(MaskHead, light=False)
FULL_OBB_HEAD: MakeHead = partial(ObbHead, light=False)
FULL_POSE_HEAD: MakeHead = partial(PoseHead, light=False)


class YoloDetector(nn.Module):
    """One-stage detector; three levels at strides 8, 16 and 32. `arguments` are its builder's, `imgsz` among them.

    Input (B, 3, H, W) RGB in 0..1, H and W multiples of 32. `decode` gives the same number of candidates for each cell.
    Its task is the head's.
    """

    head: Head
    trunk: tuple[str, tuple[str, ...]] | None = None
    """Name of a trunk that is published apart, and what its tensors start with."""

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        make_head: MakeHead,
        class_names: tuple[str, ...],
        arguments: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.name = name
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(arguments["imgsz"], STRIDES[-1]))
        self.arguments: dict[str, Any] = dict(arguments)
        self.rows = tuple(rows)
        add_rows(self, self.rows)
        widths = {row.name: row.channels for row in self.rows}
        self.head = make_head([widths[level] for level in LEVELS], len(class_names))
        self.operating_point: OperatingPoint | None = getattr(self.head, "operating_point", None)
        self.assigned: AssignedMeter | None = getattr(self.head, "assigned", None)
        self.task: Task = getattr(self.head, "task", "detect")
        self.class_tensors = tuple(f"head.{name}" for name in self.head.class_tensors)

    def forward(self, images: Tensor) -> Any:
        """Raw outputs of all cells."""
        check_input(images, STRIDES[-1])
        return self.head(run_rows(self, self.rows, images))

    def loss(self, raw: Any, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """The head's named terms."""
        check_targets(self.task, targets, len(self.class_names))
        return self.head.loss(raw, targets, total)

    def decode(self, raw: Any) -> tuple[Tensor, ...]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C) in 0..1, both float32, nothing suppressed; of the
        tasks "instance", "obb" and "pose" what belongs to masks, oriented boxes and keypoints, see `Model.decode`.
        """
        return self.head.decode(raw)
