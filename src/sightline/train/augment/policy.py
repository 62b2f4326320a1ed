"""The augmentation policy: every setting with its default, and the operations they belong to."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.keypoints import PERSON, keypoints_of

__all__ = ["NONE", "OPERATIONS", "WHOLE", "Augmentation", "check_mirror", "check_policy", "needs_masks"]

OPERATIONS: dict[str, tuple[str, ...]] = {
    "mosaic": ("mosaic",),
    "affine": ("scale", "translate", "rotate", "shear"),
    "crop": ("crop", "crop_min"),
    "flip": ("flip_lr", "flip_ud"),
    "multi_scale": ("multi_scale",),
    "copy_paste": ("copy_paste",),
    "mixup": ("mixup",),
    "colour": ("brightness", "contrast", "saturation", "hue"),
    "gray": ("gray",),
    "blur": ("blur", "blur_sigma"),
    "noise": ("noise", "noise_std"),
    "jpeg": ("jpeg", "jpeg_quality"),
}
"""Name of each operation and the settings that belong to it, in the order they are applied. The first says how often or
how strongly, and switches the operation off at 0 (affine, flip and colour: all of theirs at 0).
"""
NONE, WHOLE = "none", "all"
"""Names of the parts of a policy that are no operation of it: nothing on, and everything."""
_STRENGTHS = ("crop_min", "blur_sigma", "noise_std", "jpeg_quality")  # settings of how, not of how often


class Augmentation(Config):
    """What is changed at random in training images; labels follow.

    One visibility rule holds behind all of it: an object is left out when its box ends up narrower or lower than
    `min_side_px`, or when less than `min_visible` of its area is still inside the image and uncovered (unless
    `below_visible` keeps it). The area is that of its mask where the policy needs masks and the data has them or
    polygons (`needs_masks`), else of its box.
    """

    flip_lr: float = Field(default=0.5, ge=0, le=1, description="probability of a left-right flip")
    flip_ud: float = Field(default=0.0, ge=0, le=1, description="probability of an up-down flip")
    scale: float = Field(default=0.5, ge=0, lt=1, description="scaling by 1 ± this share")
    translate: float = Field(default=0.1, ge=0, le=1, description="shift by ± this share of the side")
    rotate: float = Field(default=0.0, ge=0, le=180, description="rotation by ± these degrees")
    shear: float = Field(default=0.0, ge=0, le=45, description="shear by ± these degrees, in both directions")
    crop: float = Field(
        default=0.0, ge=0, le=1, description="probability that a part of the image is cut out and enlarged"
    )
    crop_min: float = Field(
        default=0.5, gt=0, le=1, description="smallest side of that part, as a share of the image's"
    )
    mosaic: float = Field(default=0.0, ge=0, le=1, description="probability that four images are laid together")
    mixup: float = Field(
        default=0.0, ge=0, le=1, description="probability that a second image is blended in (detection)"
    )
    copy_paste: float = Field(
        default=0.0, ge=0, le=1, description="probability that objects of another image are pasted in, by their masks"
    )
    heavy_until: float = Field(
        default=0.9, ge=0, le=1, description="share of the run after which mosaic, mixup and copy_paste stop"
    )
    multi_scale: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="the network's size varies by ± this share, in steps of 32 pixels, per batch",
    )
    brightness: float = Field(default=0.3, ge=0, le=1, description="brightness by 1 ± this share")
    contrast: float = Field(default=0.3, ge=0, le=1, description="contrast by 1 ± this share")
    saturation: float = Field(default=0.4, ge=0, le=1, description="saturation by 1 ± this share")
    hue: float = Field(default=0.0, ge=0, le=0.5, description="hue by ± this share of the colour circle")
    gray: float = Field(default=0.0, ge=0, le=1, description="probability that the colours are taken away")
    blur: float = Field(default=0.0, ge=0, le=1, description="probability of a Gaussian blur")
    blur_sigma: float = Field(default=2.0, gt=0, le=20, description="its largest standard deviation in pixels")
    noise: float = Field(default=0.0, ge=0, le=1, description="probability of Gaussian noise")
    noise_std: float = Field(default=12.0, gt=0, le=128, description="its largest standard deviation, of 255 levels")
    jpeg: float = Field(default=0.0, ge=0, le=1, description="probability of being saved as a JPEG and read back")
    jpeg_quality: int = Field(default=40, ge=1, le=95, description="the lowest quality of that, of 95")
    photometry: Literal["image", "sequence"] = Field(
        default="image",
        description="whether colour, blur, noise and JPEG are drawn for each image or once an epoch for each sequence",
    )
    min_side_px: float = Field(
        default=2.0, ge=1, description="boxes that end up narrower or lower than this many network pixels are left out"
    )
    min_visible: float = Field(
        default=0.1, ge=0, le=1, description="objects of whose area less than this share is left are below visibility"
    )
    below_visible: Literal["drop", "keep"] = Field(
        default="drop", description="what becomes of objects below visibility: no label, or the label of what is left"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in _STRENGTHS:
            operation = next(name for name, fields in OPERATIONS.items() if field in fields)
            usual = type(self).model_fields[field].default
            # Saved settings hold every value, those of operations that are off at their defaults.
            if getattr(self, operation) == 0 and getattr(self, field) != usual:
                raise ValueError(
                    f"{field} belongs to {operation}, which is off: {operation} must be above 0, "
                    f"or {field} left at {usual:g}"
                )
        return self

    @classmethod
    def none(cls) -> "Augmentation":
        """Nothing changes; the visibility rule stays, at its defaults."""
        return cls.model_validate({f: 0.0 for fields in OPERATIONS.values() for f in fields if f not in _STRENGTHS})

    def only(self, operation: str) -> "Augmentation":
        """This policy with every other operation off; ConfigError for a name that is none."""
        if operation not in OPERATIONS:
            raise ConfigError(unknown_name("augmentation", operation, OPERATIONS))
        nothing = Augmentation.none()
        off = {f: getattr(nothing, f) for name, fields in OPERATIONS.items() if name != operation for f in fields}
        return self.model_copy(update=off)

    def active(self) -> tuple[str, ...]:
        """The operations that are switched on, in the order they are applied."""
        return tuple(
            name for name, fields in OPERATIONS.items() if any(getattr(self, f) for f in fields if f not in _STRENGTHS)
        )

    def apart(self) -> dict[str, "Augmentation"]:
        """The policy with nothing on (`none`), each of its operations alone, in order, and whole (`all`).

        Visibility rule and photometry are the policy's everywhere. Where one operation is on, it is the whole.
        """
        nothing, active = Augmentation.none(), self.active()
        off = {field: getattr(nothing, field) for fields in OPERATIONS.values() for field in fields}
        parts = {NONE: self.model_copy(update=off)} | {name: self.only(name) for name in active}
        return parts | ({WHOLE: self} if len(active) > 1 else {})


def check_policy(policy: Augmentation, dataset: Dataset) -> None:
    """ConfigError for an operation that this data set cannot take."""
    if policy.mixup and dataset.task == "semantic":
        raise ConfigError(
            "augment.mixup blends boxes' images and has no meaning for masks of classes, got "
            f"{policy.mixup:g} with data of task 'semantic'",
            do="leave it at 0",
        )
    if policy.copy_paste and (dataset.task == "semantic" or not _has_outlines(dataset)):
        raise ConfigError(
            f"augment.copy_paste needs objects with masks or polygons, got data of task '{dataset.task}' without any",
            where=str(dataset.root),
            do="leave it at 0",
        )
    if policy.photometry == "sequence" and dataset.images["group"].null_count() == len(dataset):
        raise ConfigError(
            "augment.photometry 'sequence' needs images that belong to sequences, got none that does",
            where=str(dataset.root),
            do="use 'image'",
        )


def check_mirror(policy: Augmentation, dataset: Dataset) -> None:
    """ConfigError where pictures are mirrored and nothing says which keypoints change sides then: a left hand would be
    learnt as a right one. (One keypoint has no side, and 17 without names are those of COCO.)
    """
    labelled = keypoints_of(dataset)
    said = dataset.classes["keypoint_names"].count() or dataset.classes["mirror"].count()
    if not (policy.flip_lr or policy.flip_ud) or labelled is None or said or len(labelled) in (1, len(PERSON)):
        return
    raise ConfigError(
        f"the {len(labelled)} keypoints must have names with left and right, or an order in a mirror (flip_idx), where "
        f"augment.flip_lr or flip_ud mirrors pictures, got neither",
        where=str(dataset.root),
        do="write flip_idx into the data YAML, or give --augment.flip-lr 0",
    )


def needs_masks(policy: Augmentation, dataset: Dataset) -> bool:
    """Whether objects are to have masks: they are pasted by them, and boxes of what is turned are drawn around them."""
    return bool(policy.copy_paste or policy.rotate or policy.shear) and _has_outlines(dataset)


def _has_outlines(dataset: Dataset) -> bool:
    objects = dataset.usable_objects
    return objects["rle"].null_count() < objects.height or objects["polygon"].null_count() < objects.height
