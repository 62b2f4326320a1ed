"""Drawing predictions: masks, boxes, keypoints, labels and traces, mostly by supervision's annotators; label maps as a
tinted overlay.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv
from supervision.config import ORIENTED_BOX_COORDINATES

from sightline.core.frames import SemanticMap
from sightline.data import BACKGROUND_NAMES
from sightline.draw.lettering import Tag, fit_text, text_width, write_tags, write_text
from sightline.draw.shapes import dot, join, outline_rings

__all__ = ["PALETTE", "Drawer", "class_colours", "palette_colour"]

Picture = npt.NDArray[np.uint8]
PALETTE = sv.ColorPalette.from_hex([
    "#2EC4B6", "#FF9F1C", "#E71D36", "#4D96FF", "#9B5DE5", "#6BCB77", "#FFD93D", "#F15BB5",
    "#00B4D8", "#FB5607", "#8AC926", "#C77DFF", "#FF7096", "#43AA8B", "#F9C74F", "#577590",
])  # fmt: skip
"""Colours by class id or track id, repeated when there are more."""
_REFERENCE_HEIGHT = 720.0  # the size the line widths below are meant for
_SCALES = 0.55, 8.0
_LETTER_PX = 17
_TRACE_FRAMES = 40
_TINT = 0.45
_LOCATED = 0.5  # of a keypoint's score
_HATCH, _HATCH_STEP = (128, 128, 128), 8


class Drawer:
    """Draws one stream of frames of one size; keeps the trace of each track, so use a new one for every video.

    Objects are coloured by track where they have one, else by class.
    """

    def __init__(self, size_hw: tuple[int, int], class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        scale = float(np.clip(min(size_hw) / _REFERENCE_HEIGHT, *_SCALES))
        self._scale, self._letter_px = scale, round(_LETTER_PX * scale)
        self._boxes = {
            by: sv.BoxAnnotator(PALETTE, thickness=max(1, round(2 * scale + 0.3)), color_lookup=lookup)
            for by, lookup in (("class", sv.ColorLookup.CLASS), ("track", sv.ColorLookup.TRACK))
        }
        self._masks = {
            by: sv.MaskAnnotator(PALETTE, opacity=_TINT, color_lookup=lookup)
            for by, lookup in (("class", sv.ColorLookup.CLASS), ("track", sv.ColorLookup.TRACK))
        }
        self._trace = sv.TraceAnnotator(
            PALETTE,
            position=sv.Position.BOTTOM_CENTER,
            trace_length=_TRACE_FRAMES,
            thickness=max(1, round(2 * scale)),
            color_lookup=sv.ColorLookup.TRACK,
        )

    def draw(
        self,
        image: Picture,
        detections: sv.Detections | None = None,
        semantic: SemanticMap | None = None,
        *,
        legend: bool = True,
    ) -> Picture:
        """A copy of the RGB image (H, W, 3) with the predictions drawn on it; `legend` names the classes of a map.

        Pixels of a map whose id is that of no class are hatched: they never count.
        """
        drawn = image.copy() if semantic is None else self._tint(image, semantic, legend)
        if detections is None:
            return drawn
        # The annotators think in BGR; a swapped copy is cheaper than swapped palettes are to explain.
        canvas: npt.NDArray[np.uint8] = np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), np.uint8)
        tracked = detections.tracker_id is not None and len(detections) > 0
        coloured_by = "track" if tracked else "class"
        if detections.mask is not None:
            canvas = self._masks[coloured_by].annotate(canvas, detections)
        if tracked:
            confirmed = np.flatnonzero(np.asarray(detections.tracker_id) >= 0)
            canvas = self._trace.annotate(canvas, detections.select(confirmed))
        if ORIENTED_BOX_COORDINATES not in detections.data:
            canvas = self._boxes[coloured_by].annotate(canvas, detections)
        drawn = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB), np.uint8)
        boxes = np.asarray(detections.xyxy, np.float64)
        ids = detections.tracker_id if tracked else detections.class_id
        ids = np.zeros(len(boxes), np.int64) if ids is None else np.asarray(ids)
        for ring, number in zip(detections.data.get(ORIENTED_BOX_COORDINATES, ()), ids.tolist(), strict=False):
            outline_rings(drawn, [ring], palette_colour(int(number)), max(1, round(2 * self._scale)), dashed=False)
        self._poses(drawn, detections, ids)
        tags = [
            Tag(text, (box[0], box[1], box[2], box[3]), palette_colour(int(i)))
            for text, box, i in zip(self._captions(detections), boxes.tolist(), ids, strict=True)
            if text
        ]
        write_tags(drawn, tags, boxes, letter_px=self._letter_px)
        return drawn

    def _poses(self, drawn: Picture, detections: sv.Detections, ids: npt.NDArray[Any]) -> None:
        """Keypoints that can be located, and what joins two of them."""
        for pose, number in zip(detections.data.get("keypoints", ()), ids.tolist(), strict=False):
            colour, located = palette_colour(int(number)), pose[:, 2] >= _LOCATED
            for a, b in detections.metadata.get("skeleton", ()):
                if located[a] and located[b]:
                    join(drawn, pose[a, :2].tolist(), pose[b, :2].tolist(), colour, max(1, round(2 * self._scale)))
            for x, y, _ in pose[located].tolist():
                dot(drawn, (x, y), colour, max(2, round(3 * self._scale)), hollow=False)

    def _captions(self, detections: sv.Detections) -> list[str]:
        count = len(detections)
        names = detections.data.get("class_name")
        if names is None:
            ids = detections.class_id if detections.class_id is not None else [None] * count
            names = [self._name(i) for i in ids]
        scores = detections.confidence if detections.confidence is not None else [None] * count
        tracks = detections.tracker_id if detections.tracker_id is not None else [None] * count
        captions = []
        for name, score, track in zip(names, scores, tracks, strict=True):
            parts = [str(name)] if name else []
            parts += [] if track is None or track < 0 else [f"#{int(track)}"]  # below 0: of no confirmed track
            parts += [] if score is None else [f"{score:.2f}"]
            captions.append(" ".join(parts))
        return captions

    def _name(self, class_id: Any) -> str:
        known = class_id is not None and 0 <= int(class_id) < len(self.class_names)
        return self.class_names[int(class_id)] if known else ("" if class_id is None else f"class {class_id}")

    def _tint(self, image: Picture, semantic: SemanticMap, legend: bool) -> Picture:
        """The image with every class but the background tinted and outlined, and a legend of the classes present."""
        colours = class_colours(semantic.class_names)
        counted = (semantic.class_ids >= 0) & (semantic.class_ids < len(semantic.class_names))
        ids = np.where(counted, semantic.class_ids, 0)
        painted = np.array([n.lower() not in BACKGROUND_NAMES for n in semantic.class_names])
        shown = painted[ids] & counted
        blend = cv2.addWeighted(image, 1 - _TINT, colours[ids], _TINT, 0.0)
        drawn = np.where(shown[..., None], blend, image)
        for class_id in np.unique(ids[shown]).tolist():
            here = ((ids == class_id) & counted).astype(np.uint8)
            outlines, _ = cv2.findContours(here, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            colour = tuple(int(c) for c in colours[class_id])
            cv2.drawContours(drawn, outlines, -1, colour, max(1, round(self._scale)), cv2.LINE_AA)
        y, x = np.nonzero(~counted)
        stripe = (x + y) % _HATCH_STEP < _HATCH_STEP // 4
        drawn[y[stripe], x[stripe]] = _HATCH
        if legend:
            shares = np.bincount(ids[counted], minlength=len(painted)) / ids.size
            self._legend(drawn, np.where(painted, shares, 0.0), semantic.class_names, colours)
        return np.asarray(drawn, np.uint8)

    def _legend(self, drawn: Picture, shares: npt.NDArray[np.float64], names: Sequence[str], colours: Picture) -> None:
        present = [i for i in np.argsort(-shares, kind="stable").tolist() if shares[i] > 0]
        size, step = self._letter_px, round(1.5 * self._letter_px)
        margin = step // 3
        for row, class_id in enumerate(present[: max(1, drawn.shape[0] // (3 * step))]):
            share = f" {shares[class_id]:.1%}"
            room = drawn.shape[1] - 2 * margin - step - margin
            whole = names[class_id] + share
            text = whole if text_width(whole, size) <= room else fit_text(names[class_id], room, size)
            left, top = margin, margin + row * step
            bottom, right = top + step - 2, left + step + text_width(text, size) + margin
            cv2.rectangle(drawn, (left, top), (right, bottom), (24, 24, 24), cv2.FILLED)
            swatch = tuple(int(c) for c in colours[class_id])
            cv2.rectangle(drawn, (left + 3, top + 3), (left + step - 5, bottom - 3), swatch, cv2.FILLED)
            write_text(drawn, text, (left + step, bottom - round(0.4 * size)), (245, 245, 245), size)


def palette_colour(index: int) -> tuple[int, int, int]:
    """RGB of the palette's colour number `index`, from the start again when there are more."""
    red, green, blue = PALETTE.by_idx(index).as_rgb()
    return int(red), int(green), int(blue)


def class_colours(class_names: Sequence[str]) -> Picture:
    """(C, 3) RGB, one colour per class, the same for the same class id everywhere."""
    return np.array([palette_colour(i) for i in range(len(class_names))], np.uint8).reshape(-1, 3)
