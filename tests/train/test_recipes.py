"""Every recipe is read by the code the command line uses, and trains."""

from pathlib import Path

import pytest
import yaml

from sightline.core.config import read_yaml
from sightline.core.runs import RunFolder
from sightline.train import Ablation, TrainConfig, train
from sightline.train.augment.policy import check_policy
from sightline.train.data.splits import prepare_data
from sightline.train.studies.files import merge_settings, settings_of

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
STUDIES = [path for path in RECIPES if "variants" in yaml.safe_load(path.read_text())]
RUNS = [path for path in RECIPES if path not in STUDIES]
TINY = {"model": {"imgsz": 64}, "schedule": {"epochs": 1, "warmup_epochs": 0.1}, "batch": 4, "precision": "fp32"}


def shortened(path, data):
    values = merge_settings(settings_of(read_yaml(path), str(path)), {"data": {"path": str(data)}})
    assert TrainConfig.load(values, where=str(path)).data.path == str(data)
    tiny = {**TINY, "checkpoint": {"ema_decay": 0.5}, "logging": {"pictures_every": 0}}
    return TrainConfig.load(merge_settings(values, tiny), where=str(path))


def test_there_are_recipes_for_the_usual_needs():
    names = {path.stem for path in RUNS}
    assert names == {"detect", "semantic", "small-object", "medical-binary", "fine-tune", "from-scratch"}
    for path in RECIPES:
        first = path.read_text().splitlines()
        assert first[0].startswith("# ")
        assert any(line.startswith("# Use: sightline ") for line in first[:4])


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_recipe_trains(path, traffic, cracks, tmp_path, watcher):
    semantic = "unet" in path.read_text()
    config = shortened(path, cracks if semantic else traffic)
    check_policy(config.augment, prepare_data(config).train)
    result = train(config, RunFolder.create(tmp_path, "semantic" if semantic else "detect"), watcher)
    assert result.weights.is_file()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_gives_settings_for_each_run(path):
    ablation = Ablation.read(path)
    configs = ablation.configs({"data": {"path": "somewhere"}}, str(path))
    assert len(configs) == len(ablation.variants) * len(ablation.seeds) >= 6
