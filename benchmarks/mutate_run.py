"""Damage every file of our own in every way, let the verbs that read it read it, and count what became of it.

A detector is trained for two epochs on generated images; its folder gets an audit, an export, a run and predictions.
Then each file is cut, flipped, emptied, replaced and edited key by key, and each verb's answer is compared with that on
the sound file. Prints a Markdown table and every silent change, traceback and hang; exits with 1 where there is one.

A value edited in a file whose seal was taken out as well, or in one that people write by hand, is no damage: the verb
does what is written. Such answers are counted apart. Run: python benchmarks/mutate_run.py [--files NAME ...]
"""

import argparse
import contextlib
import copy
import io
import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
import yaml

from sightline.cli.main import main as sightline
from sightline.core.files import write_sealed_json
from sightline.core.runs import read_record
from sightline.core.seal import SEAL_KEY

OUTCOMES = ("refused", "same answer", "other, as edited", "SILENT", "TRACEBACK", "HANG")
HANG_S = 60
FLIPS = 24
DEEP = "[" * 100_000
WEIGHTS = "run/weights/best.safetensors"
VALUES: tuple[Any, ...] = (None, "x", -1, 1e308, 2**80, [], {}, [[1]], {"a": "b"}, True)
RAW = ("NaN", "1e400", "9" * 5000, '"\\ud800"', "[" * 500 + "]" * 500)


class Answer(NamedTuple):
    """What a call of a verb came to: its exit code, its last line on stderr and a text of its results."""

    code: int | str
    said: str
    text: str


class Harm(NamedTuple):
    """One way to damage a file; `edits` where what is written is another text and no damage to it."""

    name: str
    apply: Callable[[Path], object]
    edits: bool = False


@dataclass(frozen=True)
class Case:
    """A file of the folder and the calls of verbs that read it; `made` are what their results are compared by."""

    file: str
    words: tuple[str, ...]
    made: tuple[str, ...] = ()
    by_hand: bool = False


def prepare(folder: Path) -> None:
    """The data set, a finished run with every file, and a copy of it that `--resume` goes on with."""
    os.chdir(folder)
    size = ["--height", "64", "--width", "64"]
    must("synth", "data", "--images", "12", *size, "--seed", "2", "--format", "yolo", "--overwrite")
    must("synth", "film", "--images", "2", *size, "--video-frames", "6")
    options = ["--model", "yolo11n", "--imgsz", "64", "--batch", "4", "--workers", "0", "--device", "cpu"]
    must("train", "--data", "data", *options, "--epochs", "2", "--name", "done", "--precision", "fp32")
    shutil.move("runs/detect/done", "run")
    shutil.copytree("run", "cut")
    write_sealed_json("cut/run.json", {**read_record("cut/run.json"), "status": "interrupted"})
    (folder / "data/sightline.yaml").write_text("name: made\n")
    must("audit", "data", "--record", "run")
    must("export", WEIGHTS, "--data", "data", "--record", "run", "--out", "model.onnx")
    film = str(next(Path("film").rglob("*.mp4")))
    must("run", WEIGHTS, film, "--out", "found", "--record", "run", "--save", "jsonl", "--conf", "0")
    images = str(next(p for p in Path("data").rglob("val") if "images" in p.parts))
    shutil.copytree(images, "frames")
    saved = [word for kind in ("jsonl", "parquet", "coco", "csv") for word in ("--save", kind)]
    must("run", WEIGHTS, images, "--out", "found", *saved, "--conf", "0")
    for suffix in (".jsonl", ".parquet", ".json", ".csv"):
        shutil.copy(next(p for p in Path("found").glob(f"val*{suffix}")), f"predictions{suffix}")


_ROWS = ("--save", "jsonl", "--conf", "0")
CASES = (
    *(
        Case(f"run/{name}", ("report", "run"), ("run/report.html",))
        for name in (
            "run.json", "config.yaml", "metrics.jsonl", "evaluation.json", "audit.json", "export.json", "video.json",
            "predictions.parquet",
        )
    ),
    Case("run/audit.json", ("card", "data", "--audit", "run/audit.json", "--out", "card"), ("card/card.md",)),
    Case("run/audit.json", ("look", "data", "--audit", "run/audit.json", "--out", "look"), ("look/look.json",)),
    Case("predictions.parquet", ("eval", "--data", "data", "--predictions", "predictions.parquet", "--json")),
    Case("predictions.jsonl", ("eval", "--data", "data", "--predictions", "predictions.jsonl", "--json"), (), True),
    Case("predictions.json", ("eval", "--data", "data", "--predictions", "predictions.json", "--json"), (), True),
    Case("predictions.csv", ("eval", "--data", "data", "--predictions", "predictions.csv", "--json"), (), True),
    Case(WEIGHTS, ("eval", "--data", "data", "--model", WEIGHTS, "--json")),
    Case("model.onnx", ("eval", "--data", "data", "--model", "model.onnx", "--json")),
    Case(WEIGHTS, ("run", WEIGHTS, "frames", "--out", "ran", *_ROWS), ("ran/frames.jsonl",)),
    Case("model.onnx", ("run", "model.onnx", "frames", "--out", "ran", *_ROWS), ("ran/frames.jsonl",)),
    Case(WEIGHTS, ("export", WEIGHTS, "--data", "data", "--images", "1", "--out", "again.onnx", "--json")),
    Case("cut/weights/last.ckpt", ("train", "--resume", "cut"), ("cut/evaluation.json", "cut/metrics.jsonl")),
    Case("cut/run.json", ("train", "--resume", "cut"), ("cut/evaluation.json", "cut/metrics.jsonl")),
    Case("cut/config.yaml", ("train", "--resume", "cut"), ("cut/evaluation.json", "cut/metrics.jsonl")),
    Case("data/sightline.yaml", ("audit", "data", "--json"), (), True),
)  # fmt: skip


def call(*words: str) -> Answer:
    """A verb in this process; an answer whatever becomes of it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(HANG_S)
    code: int | str = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            sightline(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except _GivenUp:
        code = "HANG"
    except BaseException as error:  # noqa: BLE001 - whatever it is, the command line would have shown a traceback
        code = "TRACEBACK"
        err.write(f"\n{type(error).__name__}: {error}"[:400])
    finally:
        signal.alarm(0)
    out.seek(0)
    err.seek(0)
    said = err.read().strip().splitlines()
    return Answer(code, said[-1] if said else "", out.read())


def must(*words: str) -> None:
    """A call that has to end well."""
    given = call(*words)
    if given.code not in (0, 1):
        raise SystemExit(f"{words} ended with {given}")


class _GivenUp(BaseException):
    """No error that a verb may take for one of a file's."""


def _give_up(number: int, frame: object) -> None:
    raise _GivenUp


_CHANGING = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:+.]*|sightline-file-sha256:\w+|\"?(seconds|images_per_s)\"?: [\d.e-]+")


def answer(case: Case) -> Answer:
    """The verb's answer with the files it made, times left out."""
    for made in case.made:
        if made.endswith(("html", "md")):
            Path(made).unlink(missing_ok=True)
    given = call(*case.words)
    files = "".join(Path(made).read_text(errors="replace") for made in case.made if Path(made).is_file())
    return given._replace(text=_CHANGING.sub("", (given.text if not case.made else "") + files))


def harms(file: Path) -> Iterator[Harm]:
    """Every way in which this file is damaged."""
    data = file.read_bytes()
    for size in sorted({0, 1, len(data) // 3, len(data) // 2, len(data) - 200, len(data) - 1} & set(range(len(data)))):
        yield Harm(f"cut to {size} bytes", lambda f, size=size: f.write_bytes(data[:size]))
    for place in range(0, len(data), max(len(data) // FLIPS, 1)):
        yield Harm(f"bit {place % 8} of byte {place}", lambda f, place=place: f.write_bytes(_flipped(data, place)))
    for name, raw in {
        "zeros": b"\0" * 64,
        "UTF-16": "a: ä".encode("utf-16"),
        "other text": b"[section]\nx = 1\n",
    }.items():
        yield Harm(name, lambda f, raw=raw: f.write_bytes(raw))
    for text in ("null", "[]", "{}", "1", DEEP, '{"a": ' * 50_000, "9" * 5000, '"\\ud800"'):
        yield Harm(f"all of it: {text[:12]}", lambda f, text=text: f.write_text(text), edits=True)
    yield Harm("a folder", lambda f: (f.unlink(), f.mkdir()))
    yield Harm("a pipe", lambda f: (f.unlink(), os.mkfifo(f)))
    if os.getuid():
        yield Harm("unreadable", lambda f: f.chmod(0))
    by_suffix = {".json": _json, ".jsonl": _rows, ".csv": _cells, ".yaml": _yaml, ".parquet": _parquet, ".ckpt": _state}
    if file.suffix in by_suffix:
        yield from by_suffix[file.suffix](file)


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from _places(inner, (*above, key))


def _edited(whole: Any, place: tuple[Any, ...], *value: Any) -> Any:
    """A copy with another value at the place, or without it."""
    made = copy.deepcopy(whole)
    part = made
    for key in place[:-1]:
        part = part[key]
    if value:
        part[place[-1]] = value[0]
    else:
        del part[place[-1]]
    return made


_EDITS = 30


def _edits(whole: Any) -> Iterator[tuple[str, Any]]:
    places = list(_places(whole))
    for number, place in enumerate(places[:: max(len(places) // _EDITS, 1)]):
        name = ".".join(map(str, place))
        other = VALUES[number % len(VALUES)]
        yield f"without {name}", _edited(whole, place)
        yield f"{name} = {other!r:.20}", _edited(whole, place, other)
        yield f"{name} = MARK {number % len(RAW)}", _edited(whole, place, "MARK")


def _marked(text: str, name: str) -> str:
    return text.replace('"MARK"', RAW[int(name[-1])]) if " = MARK " in name else text


def _json(file: Path) -> Iterator[Harm]:
    whole = json.loads(file.read_bytes())
    for name, made in _edits(whole):
        text = _marked(json.dumps(made, indent=2, ensure_ascii=False), name)
        yield Harm(name, lambda f, text=text: f.write_text(text), edits=SEAL_KEY in name)
    if SEAL_KEY not in whole:
        return
    del whole[SEAL_KEY]
    for name, made in _edits(whole):
        text = _marked(json.dumps(made), name)
        yield Harm(f"unsealed, {name}", lambda f, text=text: f.write_text(text), edits=True)


def _rows(file: Path) -> Iterator[Harm]:
    lines = file.read_text().splitlines()
    yield Harm("without its last row", lambda f: f.write_text("\n".join(lines[:-1])), edits=SEAL_KEY not in lines[-1])
    yield Harm("first row twice", lambda f: f.write_text("\n".join([lines[0], *lines])))
    for name, made in _edits(json.loads(lines[0])):
        first = _marked(json.dumps(made), name)
        text = "\n".join([first, *lines[1:]])
        yield Harm(name, lambda f, text=text: f.write_text(text))
        bare = re.sub(rf', "{SEAL_KEY}": "[^"]*"', "", text)
        yield Harm(f"unsealed, {name}", lambda f, bare=bare: f.write_text(bare), edits=True)


def _cells(file: Path) -> Iterator[Harm]:
    lines = file.read_text().splitlines()
    cells = lines[1].split(",")
    for place, column in enumerate(lines[0].split(",")):
        for value in ("", "x", "-1", "1e308", "NaN", "9" * 5000, '"a\nb"', "\ud800", "1,2"):
            row = ",".join([*cells[:place], value, *cells[place + 1 :]])
            text = "\n".join([lines[0], row, *lines[2:]])
            yield Harm(f"{column} = {value!r:.20}", lambda f, t=text: f.write_text(t, errors="surrogatepass"))
        text = "\n".join([lines[0].replace(column, "other", 1), *lines[1:]])
        yield Harm(f"without {column}", lambda f, text=text: f.write_text(text))


def _yaml(file: Path) -> Iterator[Harm]:
    for name, made in _edits(yaml.safe_load(file.read_text())):
        text = yaml.safe_dump(made).replace("MARK", RAW[int(name[-1])] if " = MARK " in name else "MARK")
        yield Harm(name, lambda f, text=text: f.write_text(text))


def _parquet(file: Path) -> Iterator[Harm]:
    table, metadata = pl.read_parquet(file), dict(pl.read_parquet_metadata(file))
    metadata = {key: text for key, text in metadata.items() if key.startswith("sightline")}
    bare = {key: text for key, text in metadata.items() if "seal" not in key}

    def written(changed: pl.DataFrame, described: dict[str, str]) -> Callable[[Path], object]:
        return lambda f: changed.write_parquet(f, metadata=described)

    for column in table.columns:
        yield Harm(f"without {column}", written(table.drop(column), bare), edits=True)
        yield Harm(f"{column} of text", written(table.with_columns(pl.lit("x").alias(column)), bare), edits=True)
        yield Harm(f"{column} empty", written(table.with_columns(pl.lit(None).alias(column)), bare), edits=True)
    moved = table.with_columns(pl.col("x1") + 1)
    yield Harm("boxes moved", written(moved, metadata))
    for key in bare:
        for text in ("", "null", "[]", "{}", DEEP, '{"a": ' + "9" * 5000 + "}", '{"image_id": [1]}'):
            yield Harm(f"{key}: {text[:12]}", written(table, bare | {key: text}), edits=True)


def _state(file: Path) -> Iterator[Harm]:
    whole = torch.load(file, weights_only=True)
    for place in _state_places(whole):
        name = ".".join(map(str, place))
        for what, made in (
            ("without", _edited(whole, place)),
            ("text at", _edited(whole, place, "x")),
            ("zeros at", _edited(whole, place, torch.zeros(3))),
        ):
            yield Harm(f"{what} {name}", lambda f, made=made: torch.save(made, f), edits=True)


def _state_places(whole: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for key, part in whole.items():
        yield (key,)
        inner = list(part) if isinstance(part, dict) else []
        yield from ((key, name) for name in inner[:12])


def judge(case: Case, harm: Harm, before: Answer, after: Answer) -> str:
    """Which of `OUTCOMES` it is."""
    if isinstance(after.code, str):
        return after.code
    if after.code == 2 and after.said:
        return "refused"
    if (after.code, after.text) == (before.code, before.text):
        return "same answer"
    return "other, as edited" if case.by_hand or harm.edits else "SILENT"


def measure(case: Case) -> tuple[Counter[str], list[str]]:
    """How often each outcome came of damaging this file, and a line for each that must not be."""
    top, file = Path(case.file).parts[0], Path(case.file)
    kept = Path("kept") / top
    _remove(Path("kept"))
    _copy(Path(top), kept)
    before = answer(case)
    if before.code not in (0, 1):
        raise SystemExit(f"{case.words} ended with {before}")
    _remove(Path(top))
    _copy(kept, Path(top))
    if (again := answer(case)) != before:
        raise SystemExit(f"{case.words} answers differently each time: {_difference(before.text, again.text)}")
    counts: Counter[str] = Counter()
    wrong = []
    for harm in harms(Path("kept") / file):
        _remove(Path(top))
        _copy(kept, Path(top))
        harm.apply(file)
        after = answer(case)
        outcome = judge(case, harm, before, after)
        counts[outcome] += 1
        if outcome.isupper():
            wrong.append(f"{outcome}: {case.file} ({harm.name}), {case.words[0]}: {after.code} {after.said[:200]}")
    _remove(Path(top))
    _copy(kept, Path(top))
    return counts, wrong


def _difference(one: str, other: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), -1)
    return f"{one[max(place - 80, 0) : place + 40]!r} and {other[max(place - 80, 0) : place + 40]!r}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> int:
    """Measure all files, or the named ones; 1 where anything was silent, a traceback or a hang."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", nargs="*", default=[], help="only files whose name contains one of these")
    chosen = parser.parse_args().files
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        print(f"| file | verb | {' | '.join(OUTCOMES)} | s |", "|" + "---|" * (len(OUTCOMES) + 3), sep="\n")
        for case in CASES:
            if chosen and not any(part in case.file for part in chosen):
                continue
            started = time.perf_counter()
            counts, lines = measure(case)
            wrong += lines
            cells = " | ".join(str(counts[name]) for name in OUTCOMES)
            print(f"| {case.file} | {case.words[0]} | {cells} | {time.perf_counter() - started:.0f} |", flush=True)
        os.chdir("/")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
