"""Will it run there, as well: export with a parity gate. Exporting needs torch."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.deploy.export import ExportResult, export_onnx, restate_onnx
    from sightline.deploy.parity import ParityReport, ParityTolerance, check_parity

__all__ = ["ExportResult", "ParityReport", "ParityTolerance", "check_parity", "export_onnx", "restate_onnx"]

__getattr__, __dir__ = door(__name__)
