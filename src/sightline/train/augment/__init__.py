"""Augmentation as data: a policy says what may change, one matrix per image moves pixels and labels together."""

from sightline.train.augment.policy import check_policy

__all__ = ["check_policy"]
