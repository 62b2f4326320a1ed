"""DICOM pictures: the values that the file says are shown, on one scale for all files of a device."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from sightline.core.errors import DataError
from sightline.media import IMAGE_SUFFIXES, read_header, read_image


def write(path: Path, values: np.ndarray, *, bits: int = 12, kind: str = "MONOCHROME2", **tags) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if values.ndim == 3 else (1, kind)
    made.BitsAllocated = 8 * values.dtype.itemsize
    made.BitsStored, made.HighBit, made.PixelRepresentation = bits, bits - 1, int(values.dtype.kind == "i")
    if values.ndim == 3:
        made.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = values.tobytes()
    made.save_as(path, enforce_file_format=True)
    return path


def test_gray_is_over_all_stored_bits_or_through_the_window(tmp_path: Path) -> None:
    values = np.array([[0, 1000], [2000, 4095], [10, 20]], np.uint16)
    plain = read_image(write(tmp_path / "a.dcm", values))
    assert (plain.dtype, plain.shape) == (np.uint16, (3, 2))
    np.testing.assert_array_equal(plain, np.rint(values / 4095 * 65535))
    inverse = read_image(write(tmp_path / "b.dcm", values, kind="MONOCHROME1"))
    np.testing.assert_array_equal(inverse, np.rint((1 - values / 4095) * 65535))
    units = (values.astype(np.int32) - 1024).clip(-1024, 3071).astype(np.int16)
    tags = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": 0}
    seen = read_image(write(tmp_path / "c.dcm", units, bits=16, **tags)) / 65535
    expected = np.clip((units - (40 - 0.5)) / (400 - 1) + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    np.testing.assert_allclose(seen, expected, atol=1e-3)


def test_eight_bits_and_colours_stay_as_they_are(tmp_path: Path) -> None:
    gray = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(read_image(write(tmp_path / "g.dcm", gray, bits=8)), gray)
    colours = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    file = write(tmp_path / "c.dcm", colours, bits=8)
    np.testing.assert_array_equal(read_image(file), colours)
    header = read_header(file)
    assert (header.kind, header.size_hw, header.channels) == ("dicom", (4, 6), "rgb")
    assert ".dcm" in IMAGE_SUFFIXES


def test_what_is_no_picture_is_one_sentence(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16))
    short = tmp_path / "short.dcm"
    short.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="undamaged image"):
        read_image(short)
    report = pydicom.dcmread(file)
    del report.Columns
    report.Modality = "SR"
    report.save_as(tmp_path / "report.dcm")
    with pytest.raises(DataError, match="without a picture"):
        read_image(tmp_path / "report.dcm")
