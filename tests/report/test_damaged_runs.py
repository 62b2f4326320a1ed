"""Files of a run folder, damaged or edited in every single place: a page, or one sentence with the file's name."""

import copy
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest

from sightline.core.errors import InputError
from sightline.core.files import file_sha256, write_sealed_json
from sightline.core.predictions import Predictions
from sightline.core.runs import read_record
from sightline.report import write_report
from sightline.report.origin import recompute_section
from sightline.report.records import read_data_now

DEEP = "[" * 100_000
OTHERS: tuple[Any, ...] = (None, "x", -1, 1e308, [], {}, [[1]], {"a": "b"}, True)
_PLACES = 4  # of a file that are changed, evenly spread: evaluations have thousands


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from _places(inner, (*above, key))


def _changed(value: Any, place: tuple[Any, ...], other: Any, *, remove: bool) -> str:
    whole = copy.deepcopy(value)
    part = whole
    for key in place[:-1]:
        part = part[key]
    if remove:
        del part[place[-1]]
    else:
        part[place[-1]] = other
    return json.dumps(whole)


def mutations(text: str) -> Iterator[str]:
    """The text of a JSON file with one thing wrong at a time."""
    value = json.loads(text)
    yield from (
        text[: len(text) // 2],
        "",
        "null",
        "[]",
        "{}",
        DEEP,
        "\x00" * 40,
        text.encode().decode("utf-16", "replace"),
    )
    places = list(_places(value))
    for number, place in enumerate(places[:: max(len(places) // _PLACES, 1)]):
        yield _changed(value, place, None, remove=True)
        yield _changed(value, place, OTHERS[number % len(OTHERS)], remove=False)
        marked = _changed(value, place, "MARK", remove=False)
        yield marked.replace('"MARK"', ("NaN", "9" * 5000, "1e400", '"\\ud800"', "[" * 500 + "]" * 500)[number % 5])


def sentence(work: Callable[[], object]) -> str:
    """The sentence of the InputError that the work ends in; empty where it ends well."""
    try:
        work()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name", ["run.json", "evaluation.json", "audit.json", "export.json", "video.json", "tracking.json", "metrics.jsonl"]
)
def test_every_single_change_ends_in_a_page_or_a_sentence(detect_run, tmp_path, monkeypatch, name) -> None:
    known: list[Any] = []

    def once(record: Any, path: Any) -> Any:  # reading the data is not what is tested, and takes longer than the rest
        if not known:
            known.append(read_data_now(record, path))
        return known[0]

    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    file = folder / name
    if not file.exists():
        pytest.skip(f"this run has no {name}")
    monkeypatch.setattr("sightline.report.page.read_data_now", once)
    monkeypatch.setattr("sightline.report.page.render_template", lambda name, **values: f"{values}")
    monkeypatch.setattr("sightline.report.charts.to_svg", lambda *chart, **more: "")
    monkeypatch.setattr("sightline.report.page.pictures_section", lambda record, now: recompute_section(record))
    whole = re.sub(r',\s*"seal": "[^"]*"', "", file.read_text())  # as files of before the seal, which is tested below
    first, *rest = whole.splitlines() if name.endswith("l") else [whole]
    write_report(folder, tmp_path / "page.html", data=detect_run.data)
    outcomes: Counter[str] = Counter()
    for text in mutations(first):
        file.write_text("\n".join([text, *rest]), encoding="utf-8", errors="surrogatepass")
        said = sentence(lambda: write_report(folder, tmp_path / "page.html", data=detect_run.data))
        assert "\n" not in said
        assert len(said) < 1000
        outcomes["sentence" if said else "page"] += 1
    assert outcomes["sentence"] >= 6, outcomes
    assert outcomes.total() > 15, outcomes


@pytest.mark.parametrize("name", ["run.json", "audit.json", "evaluation.json", "video.json", "predictions.parquet"])
def test_a_page_shows_no_number_that_was_changed(detect_run, tmp_path, name) -> None:
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    data = (folder / name).read_bytes()
    place = len(data) // 3
    (folder / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(InputError, match=rf"{name}: must be .* damaged or edited"):
        write_report(folder, tmp_path / "page.html", data=detect_run.data)


def test_rows_that_are_missing_are_said(detect_run, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[:-1]))
    with pytest.raises(InputError, match=rf"metrics\.jsonl: must have a row for each of {len(rows)} epochs"):
        write_report(folder, tmp_path / "page.html", data=detect_run.data)


def test_settings_that_were_edited_are_said(detect_run, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    (folder / "config.yaml").write_text("schedule:\n  epochs: 3\n")
    record = read_record(folder / "run.json")
    write_sealed_json(folder / "run.json", record | {"config_sha256": file_sha256(folder / "config.yaml")})
    write_report(folder, tmp_path / "page.html", data=detect_run.data)
    (folder / "config.yaml").write_text("schedule:\n  epochs: 4\n")
    with pytest.raises(InputError, match=r"config\.yaml: must be"):
        write_report(folder, tmp_path / "page.html", data=detect_run.data)


@pytest.mark.parametrize("harm", ["folder", "config", "deep", "latin"])
def test_a_run_folder_of_other_things(detect_run, tmp_path, harm) -> None:
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    if harm == "folder":
        (folder / "evaluation.json").unlink()
        (folder / "evaluation.json").mkdir()
    elif harm == "config":
        (folder / "config.yaml").write_text("data: [\n")
    elif harm == "deep":
        (folder / "config.yaml").write_text("a: " + DEEP)
    else:
        (folder / "metrics.jsonl").write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(InputError) as error:
        write_report(folder, tmp_path / "page.html", data=detect_run.data)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("key", ["sightline", "sightline_images"])
@pytest.mark.parametrize("text", ["", "null", "[]", "{}", DEEP, '{"a": ' + "9" * 5000 + "}", '{"image_id": [1]}'])
def test_metadata_of_predictions(detect_run, tmp_path, key: str, text: str) -> None:
    source = detect_run.folder / "predictions.parquet"
    metadata = {k: v for k, v in pl.read_parquet_metadata(source).items() if "seal" not in k}
    pl.read_parquet(source).write_parquet(tmp_path / "p.parquet", metadata=metadata | {key: text})
    said = sentence(lambda: Predictions.load(tmp_path / "p.parquet"))
    # Nothing need be said of what made predictions; anything may be.
    assert "p.parquet" in said or text.startswith("{}") or (key == "sightline" and text == '{"image_id": [1]}')


def test_cut_predictions(detect_run, tmp_path) -> None:
    whole = (detect_run.folder / "predictions.parquet").read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "p.parquet").write_bytes(whole[:size])
        with pytest.raises(InputError):
            Predictions.load(tmp_path / "p.parquet")
    flipped = 0
    for place in range(4, len(whole), max(len(whole) // 60, 1)):
        (tmp_path / "p.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        flipped += bool(sentence(lambda: Predictions.load(tmp_path / "p.parquet")))
    assert flipped
