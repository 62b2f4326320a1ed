"""Augmentation as data: a policy says what may change, one matrix per image moves pixels and labels together."""
