"""Writing frames as an H.264 file that browsers play: yuv420p, constant frame rate, index at the front."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from sightline.core.files import atomic_path

_CONSTANT_RATE_FACTOR = 18


def write_h264(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    size_hw: tuple[int, int],
    fps: float,
    ticks: Sequence[int] | None = None,
) -> int:
    """Write RGB frames (H, W, 3), H and W even, and return how many; frame k is shown at k / fps seconds exactly.

    With `ticks`, rising whole numbers, it is shown at `ticks[k]` / fps.
    """
    rate = Fraction(fps).limit_denominator(1001)
    count = 0
    with atomic_path(path) as temporary, av.open(temporary, "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(_CONSTANT_RATE_FACTOR), "threads": "2"})
        stream.height, stream.width = size_hw
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = count if ticks is None else ticks[count], 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count
