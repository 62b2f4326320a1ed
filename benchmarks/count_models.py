"""Count every model at its usual size and write what `sightline models` says without torch.

Run after a model was added or changed: python benchmarks/count_models.py
"""

import json
from importlib.resources import files

from sightline.models import STATED_CLASSES, build_shapes, describe_model, list_models


def main() -> None:
    """Write `costs.json` beside the models."""
    names = tuple(f"class-{i}" for i in range(STATED_CLASSES))
    rows = [describe_model(build_shapes(name, names, {})).to_dict() for name in list_models()]
    file = files("sightline.models").joinpath("costs.json")
    file.write_text(json.dumps(rows, indent=1) + "\n")  # type: ignore[attr-defined]
    print(f"{len(rows)} models, written to {file}")


if __name__ == "__main__":
    main()
