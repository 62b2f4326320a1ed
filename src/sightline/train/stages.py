"""A network as the sequence of its stages: what freezing and layer-wise learning rates count in."""

from torch import nn

from sightline.core.errors import ConfigError

__all__ = ["freeze_stages", "stages_of"]


def stages_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, module) of each part with weights, from the input to the head: the model's children, lists taken apart."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        parts = child.named_children() if isinstance(child, (nn.ModuleList, nn.Sequential)) else [("", child)]
        found += [(f"{name}.{index}".rstrip("."), part) for index, part in parts]
    return [(name, part) for name, part in found if any(True for _ in part.parameters())]


def freeze_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """Take the first `count` stages out of training and return them; ConfigError when none would be left to train."""
    stages = stages_of(model)
    if count >= len(stages):
        names = ", ".join(name for name, _ in stages)
        raise ConfigError(f"freeze must leave a stage to train, got {count} of {len(stages)} ({names})")
    frozen = [part for _, part in stages[:count]]
    for part in frozen:
        part.requires_grad_(False)
    return frozen
