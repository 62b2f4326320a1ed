"""What people type who come from other tools, as the words of ours: other verbs, KEY=VALUE, other names of options.

What has a counterpart becomes it, and the command is said; what has none is one sentence with what to do instead.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from sightline.core.errors import ConfigError, nearest

__all__ = ["Option", "in_our_words", "our_verb", "take_plugins"]

_VERBS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("predict", "infer", "inference"), ("run",)),
    "track": ("run", "--track"),
    **dict.fromkeys(("val", "validate", "evaluate"), ("eval",)),
    "test": ("eval", "--split", "test"),
    "fit": ("train",),
    "checks": ("doctor",),
}
"""Verbs of other tools that one of ours is."""
_TASKS = ("detect", "segment", "pose", "obb", "semantic")
_INSTEAD = {
    "detect": "to run a detector: sightline run MODEL SOURCE",
    "segment": "to run a segmenter: sightline run MODEL SOURCE",
    "semantic": "to run a segmenter: sightline run MODEL SOURCE",
    "classify": "there are detectors and segmenters, no classifiers: sightline models lists them",
    "pose": "to find keypoints: sightline run MODEL SOURCE; to learn them: sightline train DATA --model yolo11n-pose",
    "obb": "to find oriented boxes: sightline run MODEL SOURCE; to learn them: "
    "sightline train DATA --model yolo11n-obb",
    "finetune": "sightline train DATA --model NAME --weights FILE",
    "benchmark": "where the time of training goes: sightline profile --data DATA --model NAME; "
    "of running: sightline run MODEL SOURCE prints the milliseconds of each stage",
    "help": "sightline --help, or sightline VERB --help",
    "version": "sightline --version",
    "settings": "there are none outside a command: sightline VERB --help lists its options",
    "download": "nothing is fetched unless asked: sightline weights lists what there is; "
    "sightline train --weights takes an address with its checksum",
    "import": "a model of another tool: sightline adopt FILE; data: sightline convert",
    "info": "of data: sightline audit DATA; of models: sightline models",
    "stats": "of data: sightline audit DATA; of models: sightline models",
    "view": "sightline look DATA",
    "show": "sightline look DATA",
    "plot": "sightline look DATA; of a run: sightline report RUN",
    "install": "a plug-in is installed with pip, or named with --plugin FILE",
}
"""What to type in place of what is no verb here."""
_BY_ITSELF = "every run has a folder of its own, and none is written over"
_RATES = "the size is part of the model, chosen when it was trained: sightline train --imgsz"
_KEPT = "--out FOLDER keeps the predictions; sightline run --save coco writes them as COCO results"
_AS_TRAINED = "what is written has a free batch and 32-bit weights, and agrees with the model"
_NO_DRAWING = "lines and letters follow the size of the picture"
_TASK = (
    "the model says what it does: yolo11n finds boxes, yolo11n-seg masks of objects, yolo11n-pose keypoints, "
    "yolo11n-obb oriented boxes, unet label maps"
)
_ONE_FOLDER = "--out FOLDER is the folder, name included: --out runs/exp"


class _Switch(NamedTuple):
    """The words that a switch of another tool is, on and off."""

    on: tuple[str, ...]
    off: tuple[str, ...] = ()


_OPTIONS: dict[str, dict[str, str | _Switch]] = {
    "train": {
        "task": _TASK,
        **dict.fromkeys(("lr0", "learning-rate", "base-lr"), "--lr"),
        **dict.fromkeys(("img", "img-size", "image-size", "size"), "--imgsz"),
        "batch-size": "--batch", "project": "--runs", "output-dir": "--runs", "num-workers": "--workers",
        "cfg": "--config", "hyp": "--config", "pretrained": "--weights",
        "lrf": "--final-lr-ratio",
        "num-epochs": "--epochs",
        "cos-lr": _Switch(("--schedule", "cosine")),
        "amp": _Switch((), ("--precision", "fp32")),
        "exist-ok": f"{_BY_ITSELF}; --name names it",
        "single-cls": "class names come from the data: sightline convert, or classes in a sightline.yaml",
        "save-period": "the best weights and the last state are kept: --save-every-s says how often",
        "degrees": "--augment.rotate",
        "fliplr": "--augment.flip-lr",
        "flipud": "--augment.flip-ud",
        **{name: f"--augment.{name}" for name in ("mosaic", "mixup", "scale", "translate", "shear", "copy-paste")},
        "val": "every epoch is validated",
        "plots": "sightline report RUN draws them",
        "save": "the best weights and the last state are always kept",
        **{name: f"--loss.{name} scales a term of the loss by its name" for name in ("box", "cls", "dfl")},
    },
    "eval": {
        "task": _TASK,
        "weights": "--model", "device-id": "--device", "batch-size": "--batch",
        "project": "--out", "name": _ONE_FOLDER, "save-dir": "--out",
        "conf-thres": "the whole curve is always measured; --conf is the operating point of precision and recall",
        "imgsz": _RATES,
        **dict.fromkeys(("save-json", "save-txt", "save-hybrid"), _KEPT),
        "iou": "AP is a mean over IoU 0.50 to 0.95; suppression is the model's own",
        "plots": "sightline report RUN draws them; --out RUN puts the numbers there",
        "half": "numbers are those of 32-bit arithmetic",
    },
    "run": {
        "task": _TASK,
        "weights": "--model", "conf-thres": "--conf", "confidence": "--conf", "threshold": "--conf",
        "iou-thres": "--iou", "max-detections": "--max-det", "img": "--imgsz", "img-size": "--imgsz",
        "project": "--out", "name": _ONE_FOLDER, "save-dir": "--out", "output": "--out", "batch-size": "--batch",
        "save-txt": _Switch(("--save", "txt")),
        "save-csv": _Switch(("--save", "csv")),
        "save-json": _Switch(("--save", "coco")),
        "save-masks": _Switch(("--save", "masks")),
        "save-video": _Switch(("--save", "video")),
        "save-frames": _Switch(("--save", "pictures")),
        "save-img": _Switch(("--save", "pictures")),
        "save-conf": "--save txt has the score of each box, always, as its last number",
        "view-img": "--show",
        "nosave": "--save jsonl writes the least",
        "save-crop": "--save csv has the boxes to cut out by",
        "exist-ok": "outputs of the same name are replaced; --out names another folder",
        "vid-stride": "a tracker needs every frame; --max-frames ends early",
        "half": "arithmetic is that of the file: 32-bit",
        **dict.fromkeys(("line-width", "line-thickness", "hide-labels", "hide-conf"), _NO_DRAWING),
        "agnostic-nms": _Switch(("--suppression", "agnostic")),
    },
    "export": {
        "task": _TASK,
        "weights": "--model", "output": "--out",
        "format": "ONNX is what is written; other runtimes read it",
        "imgsz": _RATES,
        **dict.fromkeys(("half", "int8", "dynamic", "simplify", "opset"), _AS_TRAINED),
    },
}  # fmt: skip
"""By verb: another name of an option; the words that a switch is; or a sentence on what to do instead."""


_AS_IT_IS = {("export", "format"): "onnx", ("run", "vid-stride"): "1"}
"""What other tools are told to do and is done here anyway."""
_OF_EVERY_VERB = ("help", "version")
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_MODELS = (".safetensors", ".onnx")  # nothing that a model runs on ends so
_WORDS = ("true", "yes", "on", "false", "no", "off")  # 0 and 1 are numbers where an option takes one


class Option(NamedTuple):
    """An option of a verb: a flag or not, with several values, the verb's own or a setting, with a `--no-` or not.

    Of `choices` as many as follow it are its values, so that the next word can be something else.
    """

    is_flag: bool = False
    takes_several: bool = False
    is_own: bool = True
    has_negative: bool = False
    choices: frozenset[str] = frozenset()


def take_plugins(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without every `--plugin FILE`, wherever it stands, and the files; ConfigError without a file."""
    kept: list[str] = []
    files: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            kept += [word, *rest]
        elif word == "--plugin":
            file = next(rest, None)
            if file is None or file.startswith("--"):
                raise ConfigError("--plugin must be followed by a Python file, got nothing")
            files.append(file)
        elif word.startswith("--plugin="):
            files.append(word.partition("=")[2])
        else:
            kept.append(word)
    return kept, files


def our_verb(words: Sequence[str], verbs: Iterable[str]) -> tuple[list[str], bool]:
    """The words with a verb of ours in front, and whether they had another; ConfigError where there is none."""
    words = [*(w.removeprefix("mode=") for w in words[:2] if not w.startswith("task=")), *words[2:]]
    verb, *rest = words
    known = {*verbs, *_VERBS}
    if verb in _TASKS and rest and rest[0] in known:
        words = rest
        verb, *rest = words
        return [*_VERBS.get(verb, (verb,)), *rest], True
    if verb in verbs or verb.startswith("-"):
        return list(words), False
    if verb in _VERBS:
        return [*_VERBS[verb], *rest], True
    near = nearest(verb, verbs)
    if verb in _INSTEAD:
        raise ConfigError(f"unknown verb '{verb}'", do=_INSTEAD[verb])
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(sorted(verbs))}"
    raise ConfigError(f"unknown verb '{verb}' ({hint})", do="see what each does with: sightline --help")


def in_our_words(words: Sequence[str], options: Mapping[str, Option], *, has_settings: bool) -> tuple[list[str], bool]:
    """The words of a verb with KEY=VALUE as options and options of other tools as ours, and whether there were such.

    Where the verb takes settings as KEY=VALUE itself (`has_settings`), only its own options are taken out of them.
    ConfigError for an option that is none, with what to do instead or the nearest.
    """
    verb, *rest = words
    reader = _Reader(verb, options, _OPTIONS.get("train" if verb == "profile" else verb, {}), has_settings)
    written, at, pairs = [verb], 0, False
    has_model = verb != "run"  # whose first bare word it is
    while at < len(rest):
        word, at = rest[at], at + 1
        if word == "--":
            written += rest[at - 1 :]
            break
        if word.startswith("--"):
            new = reader.option(word)
            new[0] = reader.again(new[0])
            if len(new) != 1 and "=" not in word and rest[at : at + 1] and rest[at].lower() in (*_YES, *_NO):
                new, at = reader.option(f"{word}={rest[at]}"), at + 1
            option = options.get(new[0][2:], Option(is_flag=True)) if len(new) == 1 else Option(is_flag=True)
            pairs = new in (["--tracker-settings"], ["--clean"])
            count = 0
            while rest[at + count : at + count + 1] and rest[at + count] in option.choices:
                count += 1
            if not count and not (option.is_flag or "=" in word) and not "".join(rest[at : at + 1]).startswith("--"):
                count = 1  # its value is none of the words that are looked at
            has_model |= "".join(new[:1]).startswith("--model")
            if new == ["--also"] and has_model:
                count = max(count, _models_at(rest[at:]))
            values = rest[at : at + count]
            at += count
            each = bool(option.choices or new == ["--also"]) and bool(values)
            written += [w for value in values for w in (*new, value)] if each else [*new, *values]
        else:
            has_model = True
            written += reader.pair(word) if not pairs and _is_pair(word) else [word]
    return _model_first(written), reader.renames


def _models_at(words: Sequence[str]) -> int:
    """How many words at the front are files of models."""
    return len(list(takewhile(lambda word: word.endswith(_MODELS) and not word.startswith("--"), words)))


def _model_first(words: list[str]) -> list[str]:
    """`run --model M SOURCE` as `run M SOURCE`: beside a place that is named the next one cannot stand bare."""
    verb, rest = words[0], words[1:]
    if verb != "run" or any(word.partition("=")[0] == "--source" for word in rest):
        return words
    for at, word in enumerate(rest):
        if word.startswith("--model="):
            return [verb, word.partition("=")[2], *rest[:at], *rest[at + 1 :]]
        if word == "--model" and at + 1 < len(rest):
            return [verb, rest[at + 1], *rest[:at], *rest[at + 2 :]]
    return words


def _is_pair(word: str) -> bool:
    return re.match(r"[A-Za-z][\w.-]*=", word) is not None and not Path(word).exists()


class _Reader:
    """Reads the options of one verb; `renames` says whether one had another name."""

    def __init__(
        self,
        verb: str,
        options: Mapping[str, Option],
        renamed: Mapping[str, str | _Switch],
        has_settings: bool,
    ) -> None:
        self.renames = False
        self._models = 0
        self._verb, self._options, self._renamed, self._has_settings = verb, options, renamed, has_settings

    def option(self, word: str) -> list[str]:
        """The words of `--name` or `--name=value`."""
        key, sign, value = word[2:].partition("=")
        name = key.replace("_", "-")
        if name in self._options or name in _OF_EVERY_VERB:
            return [f"--{name}{sign}{value}"]
        group = name.partition(".")[0]
        if "." in name and group in self._options and not any(o.startswith(f"{group}.") for o in self._options):
            return [word]  # of freely named values
        new = self._instead(name, value)
        return [f"{new[0]}={value}"] if sign and len(new) == 1 else new

    def again(self, word: str) -> str:
        """`--model` for the first model, `--also` for those that are named in the same way after it."""
        if word.partition("=")[0] != "--model" or "also" not in self._options:
            return word
        self._models += 1
        return word if self._models == 1 else word.replace("--model", "--also", 1)

    def pair(self, word: str) -> list[str]:
        """The words of `name=value`."""
        key, _, value = word.partition("=")
        name = key.replace("_", "-")
        option = self._options.get(name)
        if name == "resume" and option is not None and value.lower() in _YES:
            raise ConfigError(
                "--resume must be given the folder of a run", do="sightline train --resume runs/detect/run-1"
            )
        if option is not None and (option.is_own or not self._has_settings):
            return _with_value(name, option, value)
        if self._has_settings and name not in self._renamed:
            return [word]
        new = self._instead(name, value)
        if len(new) != 1:
            return new
        option = self._options[new[0][2:]]
        if self._has_settings and not option.is_own:
            return [f"{new[0][2:].replace('-', '_')}={value}"]
        return _with_value(new[0][2:], option, value)

    def _instead(self, name: str, value: str) -> list[str]:
        """Our name of another tool's option, or the words that it is; ConfigError where there are none."""
        new = self._renamed.get(name)
        if new is None:
            near = nearest(name, self._options)
            hint = f" (nearest: {', '.join(f'--{n}' for n in near)})" if near else ""
            raise ConfigError(
                f"unknown option --{name} of 'sightline {self._verb}'{hint}",
                do=f"list them with: sightline {self._verb} --help",
            )
        self.renames = True
        off = value.lower() in _NO
        if isinstance(new, _Switch):
            return list(new.off if off else new.on)
        if _AS_IT_IS.get((self._verb, name)) == value.lower():
            return []
        if new.startswith("--") and " " not in new:
            if value.lower() in _WORDS and not self._options[new[2:]].is_flag:
                if off:
                    return []
                raise ConfigError(f"'{name}' must be given a value here, got '{value}'", do=f"it is {new} of ours")
            return [new]
        if off:
            return []
        raise ConfigError(f"'sightline {self._verb}' has no option --{name}", do=new)


def _with_value(name: str, option: Option, value: str) -> list[str]:
    if option.takes_several:
        values = [part.strip() for part in value.strip("[]()").split(",") if part.strip()]
        if [v.lower() for v in values] == ["false"]:
            raise ConfigError(f"--{name} must be given names, got '{value}'", do="leave it out for what is usual")
        return [] if [v.lower() for v in values] == ["true"] else [w for v in values for w in (f"--{name}", v)]
    if option.is_flag and value.lower() in _YES:
        return [f"--{name}"]
    if option.is_flag and value.lower() in _NO:
        return [f"--no-{name}"] if option.has_negative else []
    return [f"--{name}={value}"] if option.is_flag or value.startswith("-") else [f"--{name}", value]
