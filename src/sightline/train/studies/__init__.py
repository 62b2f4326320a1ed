"""Studies of many runs: ablation, search, and what augmentation does."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.train.studies.ablation import augment_study, seed_interval
    from sightline.train.studies.augment_audit import AugmentAudit, AugmentAuditOptions, audit_augmentation
    from sightline.train.studies.augment_pictures import augmented_sheets
    from sightline.train.studies.files import merge_settings, read_object, run_in_process, settings_of, task_of

__all__ = [
    "AugmentAudit",
    "AugmentAuditOptions",
    "audit_augmentation",
    "augment_study",
    "augmented_sheets",
    "merge_settings",
    "read_object",
    "run_in_process",
    "seed_interval",
    "settings_of",
    "task_of",
]

__getattr__, __dir__ = door(__name__)
