"""DICOM pictures as Pillow opens others: size and kind from the header, pixels when they are asked for.

Values are what the file says they are, on one scale for all files of a device: through the window it states, where it
states one (PS3.3 C.11.2), else over all the bits that are stored; never stretched between a picture's own extremes.
Needs the extra `dicom`.
"""

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

__all__ = ["DICOM", "DICOM_SUFFIXES", "is_dicom", "open_dicom"]

DICOM = find_spec("pydicom") is not None
"""Whether DICOM pictures can be decoded: pydicom comes with the extra `dicom`."""
DICOM_SUFFIXES = (".dcm", ".dicom")
_MARK_AT, _MARK = 128, b"DICM"
_COLOURS = 3
_PALETTE = "PALETTE COLOR"


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes are those of a DICOM file."""
    return head[_MARK_AT : _MARK_AT + len(_MARK)] == _MARK


def open_dicom(stream: Any) -> Image.Image:
    """The picture in a stream, not yet decoded: RGB, 8 or 16-bit gray; of several frames the first. Raises what its
    decoder raises.
    """
    return _DicomFile(stream)


class _DicomFile(ImageFile.ImageFile):
    format = "DICOM"

    def _open(self) -> None:
        header = _read(self.fp, pixels=False)
        if "Columns" not in header or "SamplesPerPixel" not in header:
            raise ValueError(f"a DICOM object without a picture ({header.get('Modality', 'of no modality')})")
        self._size = int(header.Columns), int(header.Rows)
        self._mode = "RGB" if _is_coloured(header) else "L" if _is_small(header) else "I;16"
        self.n_frames = int(header.get("NumberOfFrames") or 1)

    def load(self) -> Any:
        if self.fp is not None and self._im is None:
            self.fp.seek(0)
            try:
                self.im = Image.fromarray(_pixels(_read(self.fp, pixels=True))).im
            except (
                RuntimeError,
                AttributeError,
            ) as error:  # a compression that needs another decoder, a tag that lacks
                raise OSError(" ".join(str(error).split())[:200]) from None
        return Image.Image.load(self)


def _is_coloured(header: Any) -> bool:
    return int(header.SamplesPerPixel) == _COLOURS or header.get("PhotometricInterpretation") == _PALETTE


def _is_small(header: Any) -> bool:
    return int(header.BitsStored) <= 8 and "WindowCenter" not in header


def _read(stream: Any, *, pixels: bool) -> Any:
    import pydicom  # an extra, and slow to load

    warnings.filterwarnings("ignore", module=r"pydicom\b")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # names of patients may be as they like
    return pydicom.dcmread(stream, stop_before_pixels=not pixels)


def _pixels(dataset: Any) -> npt.NDArray[Any]:
    """The first frame: RGB (H, W, 3) uint8, or gray (H, W) uint8 or uint16."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
    from pydicom.pixels.utils import pixel_array

    values: npt.NDArray[Any] = pixel_array(dataset, index=0)
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == _PALETTE:
        values = apply_color_lut(values, dataset)
        bits = 8 * values.dtype.itemsize
    if values.ndim == _COLOURS:
        return np.ascontiguousarray(values if bits <= 8 else values >> (bits - 8)).astype(np.uint8)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        seen = apply_voi_lut(apply_modality_lut(values, dataset), dataset, index=0).astype(np.float64)
        low, high = _range_of_window(dataset, seen)
    else:
        low = -(2.0 ** (bits - 1)) if int(dataset.PixelRepresentation) else 0.0
        seen, high = values.astype(np.float64), low + 2.0**bits - 1
        if _is_small(dataset):
            shown = np.clip(seen - low, 0, 255).astype(np.uint8)
            return shown if dataset.PhotometricInterpretation != "MONOCHROME1" else 255 - shown
    share = np.clip((seen - low) / (high - low), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        share = 1 - share
    return np.rint(share * 65535).astype(np.uint16)


def _range_of_window(dataset: Any, seen: npt.NDArray[np.float64]) -> tuple[float, float]:
    """What the window's black and white have become: the whole range of stored values, after rescaling."""
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
    low = -(2.0 ** (bits - 1)) if signed else 0.0
    high = low + 2.0**bits - 1
    slope, intercept = (
        float(dataset.get(key, default)) for key, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    if "VOILUTSequence" in dataset:
        entries = dataset.VOILUTSequence[0].LUTDescriptor
        return 0.0, 2.0 ** int(entries[2]) - 1
    return slope * low + intercept, slope * high + intercept
