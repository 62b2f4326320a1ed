"""Will it run there, as well: export with a parity gate. Exporting needs torch."""

from sightline.deploy.export import ExportResult, export_onnx
from sightline.deploy.parity import ParityReport, ParityTolerance, check_parity

__all__ = ["ExportResult", "ParityReport", "ParityTolerance", "check_parity", "export_onnx"]
