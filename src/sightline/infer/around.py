"""A predictor around another one: what both say of themselves alike."""

from typing import Generic, TypeVar

from sightline.core.dataset import Task
from sightline.core.preprocess import Preprocess
from sightline.infer.predictor import Predictor

__all__ = ["AroundPredictor"]

InnerT = TypeVar("InnerT", bound=Predictor)


class AroundPredictor(Generic[InnerT]):
    """Hands images on to `inner`, whose task, classes and preprocessing are its own."""

    def __init__(self, inner: InnerT) -> None:
        self.inner = inner

    @property
    def task(self) -> Task:
        """As the inner one's."""
        return self.inner.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """As the inner one's."""
        return self.inner.class_names

    @property
    def preprocess(self) -> Preprocess | None:
        """Of what the inner one is given."""
        return self.inner.preprocess
