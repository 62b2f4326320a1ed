"""Where frames come from: images, folders, sequences, video files, cameras."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.infer.sources.images import ImageSource
    from sightline.infer.sources.opening import Noting, Source, find_sources, open_source
    from sightline.infer.sources.video import TIMEOUT_S, CameraSource, VideoSource

__all__ = ["TIMEOUT_S", "CameraSource", "ImageSource", "Noting", "Source", "VideoSource", "find_sources", "open_source"]

__getattr__, __dir__ = door(__name__)
