"""Networks: registry, architectures, losses, weights and cost. Needs torch."""

from sightline.models.blocks import fuse
from sightline.models.complexity import ModelComplexity, count_parameters, describe_model
from sightline.models.conformance import check_model
from sightline.models.contract import IGNORE_INDEX, Decoded, Model, Targets
from sightline.models.registry import MODELS, create, list_models
from sightline.models.weights import describe_weights, load_model, save_weights
from sightline.models.weights_file import model_digest, read_weights_meta

__all__ = [
    "IGNORE_INDEX",
    "MODELS",
    "Decoded",
    "Model",
    "ModelComplexity",
    "Targets",
    "check_model",
    "count_parameters",
    "create",
    "describe_model",
    "describe_weights",
    "fuse",
    "list_models",
    "load_model",
    "model_digest",
    "read_weights_meta",
    "save_weights",
]
