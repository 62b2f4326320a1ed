"""How the inputs and outputs of a graph made elsewhere are read: part of a model file's metadata."""

from typing import Literal

import pydantic

from sightline.core.config import Config

__all__ = ["READINGS", "Decoding", "Reading"]

Reading = Literal["yolo8", "yolo8-rows", "yolo5", "one-to-one", "pairs", "labelled", "map", "ids"]

READINGS: dict[Reading, str] = {
    "yolo8": "(B, 4 + C, A): four box values, then a score for each class",
    "yolo8-rows": "(B, A, 4 + C): the same, an anchor a row",
    "yolo5": "(B, A, 5 + C): four box values, the score of there being an object, then one for each class",
    "one-to-one": "(B, K, 6): a box, its score and its class, nothing left to suppress; this and the three above also "
    "with masks ('-seg'): M coefficients more for each box, and prototypes (B, M, h, w) beside",
    "pairs": "scores (B, A, C) and boxes (B, A, 4), with or without a class that is no object",
    "labelled": "boxes (N, 4), class ids (N,) and scores (N,) of one image, suppressed already",
    "map": "a value for each class and pixel (B, C, H, W), or of one channel for the foreground",
    "ids": "a class id for each pixel (B, H, W)",
}


class Decoding(Config):
    """What a graph is fed with and how its outputs become boxes and scores, or probabilities.

    `background` says which class column, or id, is no object: ids of classes start behind the first. `scores` is what
    remains to be done to them, `suppressed` whether each object comes once already. Boxes are in network pixels or
    shares of its sides. With `masks` the first output's values end in coefficients of the second one's prototypes.
    """

    reading: Reading
    input: str = "images"
    outputs: tuple[str, ...] = pydantic.Field(default=(), max_length=4)
    layout: Literal["nchw", "nhwc", "chw", "hwc"] = "nchw"
    input_type: Literal["float32", "float16", "uint8"] = "float32"
    boxes: Literal["xyxy", "cxcywh", "yxyx"] = "xyxy"
    units: Literal["pixels", "share"] = "pixels"
    scores: Literal["probability", "sigmoid", "softmax"] = "probability"
    background: Literal["none", "first", "last"] = "none"
    suppressed: bool = False
    masks: bool = False

    @property
    def name(self) -> str:
        """What it is called where one is chosen: the reading, and of pairs also how boxes and scores are meant."""
        if self.reading == "pairs":
            empty = "" if self.background == "none" else f"-{self.background}"
            return f"pairs-{self.boxes}-{self.scores}{empty}"
        if self.reading == "labelled":
            return "labelled-from-1" if self.background == "first" else "labelled-from-0"
        return f"{self.reading}-seg" if self.masks else self.reading

    @property
    def task(self) -> Literal["detect", "instance", "semantic"]:
        """What the graph gives under this reading."""
        if self.reading in {"map", "ids"}:
            return "semantic"
        return "instance" if self.masks else "detect"

    @property
    def single(self) -> bool:
        """Whether the graph takes one image at a time."""
        return self.layout in {"chw", "hwc"} or self.reading == "labelled"
