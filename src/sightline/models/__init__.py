"""Networks: registry, architectures, losses, weights and cost. Needs torch."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.models.blocks import fuse
    from sightline.models.complexity import count_parameters, describe_model
    from sightline.models.contract import (
        IGNORE_INDEX,
        MASK_STRIDE,
        Decoded,
        Model,
        Targets,
        chooses_candidates,
        not_exportable,
        own_point,
    )
    from sightline.models.costs import STATED_CLASSES, ModelComplexity, stated_costs
    from sightline.models.foreign.adopt import AdoptedModel, adopt_checkpoint
    from sightline.models.origins import Origin, origin_of
    from sightline.models.published import (
        PUBLISHED,
        PublishedWeights,
        cached_weights,
        get_weights,
        read_catalogue,
        weights_origin,
    )
    from sightline.models.registry import MODELS, build_shapes, create, find_builder, list_models, takes_argument
    from sightline.models.sync_norm import synchronise_norms
    from sightline.models.weights import describe_weights, load_model, save_weights
    from sightline.models.weights_file import model_digest, read_weights_meta, restate_weights

__all__ = [
    "IGNORE_INDEX",
    "MASK_STRIDE",
    "MODELS",
    "PUBLISHED",
    "STATED_CLASSES",
    "AdoptedModel",
    "Decoded",
    "Model",
    "ModelComplexity",
    "Origin",
    "PublishedWeights",
    "Targets",
    "adopt_checkpoint",
    "build_shapes",
    "cached_weights",
    "chooses_candidates",
    "count_parameters",
    "create",
    "describe_model",
    "describe_weights",
    "find_builder",
    "fuse",
    "get_weights",
    "list_models",
    "load_model",
    "model_digest",
    "not_exportable",
    "origin_of",
    "own_point",
    "read_catalogue",
    "read_weights_meta",
    "restate_weights",
    "save_weights",
    "stated_costs",
    "synchronise_norms",
    "takes_argument",
    "weights_origin",
]

__getattr__, __dir__ = door(__name__)
