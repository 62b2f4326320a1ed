"""The page: self-contained, complete, honest about what is missing, and every number equal to the run's files."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from sightline.core.errors import DataError, InputError, SightlineError
from sightline.core.files import write_sealed_json
from sightline.core.predictions import Predictions
from sightline.report import write_report
from sightline.report.accuracy import accuracy_section
from sightline.report.charts import curve_chart
from sightline.report.data_card import data_section
from sightline.report.operation import export_section, latency_section, tracking_section
from sightline.report.origin import origin_section
from sightline.report.page import headline
from sightline.report.pictures import pictures_section
from sightline.report.records import DataNow, read_data_now, read_run
from sightline.report.training import training_section

SECTIONS = ["data", "training", "accuracy", "pictures", "latency", "export", "tracking", "origin", "recompute"]
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href", "formaction"}
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """What a browser would make of the page: tags, attributes, texts by section, numbers with their sources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.numbers: list[dict[str, str]] = []
        self.sections: dict[str, str] = {}
        self.open: list[str] = []
        self._section = ""
        self.feed(text)
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = {k: v or "" for k, v in attrs}
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = values["id"]
            self.sections[self._section] = ""
        if values.get("class") == "number":
            self.numbers.append(values)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        if self._section:
            self.sections[self._section] += data
        if self.numbers and "shown" not in self.numbers[-1]:
            self.numbers[-1]["shown"] = data


@pytest.fixture(scope="module")
def detect_page(detect_run):
    result = write_report(detect_run.folder)
    assert result.path == detect_run.folder / "report.html"
    assert result.size_bytes == result.path.stat().st_size
    return Page(result.path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def semantic_page(semantic_run):
    return Page(write_report(semantic_run.folder).path.read_text(encoding="utf-8"))


@pytest.fixture(params=["detect_page", "semantic_page"])
def page(request):
    return request.getfixturevalue(request.param)


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for key, value in attributes.items():
            assert not key.startswith("on"), f"event handler on <{tag}>"
            if key in LOADING:
                assert value.startswith(("data:image/jpeg;base64,", "#")), f"<{tag} {key}={value[:60]}>"
            if key == "style":
                assert "url(" not in value
    assert not re.search(r"https?:", page.text)
    assert "@import" not in page.text
    assert not re.findall(r"url\((?!#)", page.text)


def test_ids_are_unique_and_references_resolve(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)", page.text) + [a["href"][1:] for t, a in page.tags if t == "a"]
    assert set(used) <= set(ids)


def test_all_sections_are_there_in_order(page):
    assert list(page.sections) == SECTIONS
    assert [a["href"] for t, a in page.tags if t == "a"] == [f"#{name}" for name in SECTIONS]


def test_hostile_names_are_text(detect_run, detect_page):
    hostile = detect_run.dataset.class_names[0]
    assert hostile == "<script>alert('x')</script>"
    assert hostile not in detect_page.text
    for section in ("data", "accuracy", "origin"):
        assert hostile in detect_page.sections[section]
    assert all("onload" not in attributes for _, attributes in detect_page.tags)
    for name in detect_run.dataset.class_names:
        assert name in detect_page.sections["accuracy"]


def look_up(values, dotted: str):
    for key in dotted.split("."):
        values = values[int(key)] if isinstance(values, list) else values[key]
    return values


@pytest.mark.parametrize("which", ["detect", "semantic"])
def test_every_number_equals_its_source(which, request):
    folder = request.getfixturevalue(f"{which}_run").folder
    page = request.getfixturevalue(f"{which}_page")
    checked = 0
    for number in page.numbers:
        file, _, key = number["data-source"].partition(" ")
        if not file.endswith(".json"):
            continue
        values = json.loads((folder / file).read_text(encoding="utf-8"))
        head, _, rest = key.partition(" ")
        values = look_up(values, head) if rest else values
        expected = look_up(values, rest or key)
        shown = number["data-value"]
        assert (expected is None) == shown.startswith("not a number"), (file, key)
        if expected is not None:
            assert float(shown) == expected, (file, key)
            if re.fullmatch(r"-?\d\.\d{4}", number["shown"]):
                assert abs(float(number["shown"]) - expected) <= 0.500001e-4
        checked += 1
    assert checked > 50


def test_shown_digits_are_the_rounded_value(detect_page, detect_run):
    evaluation = json.loads((detect_run.folder / "evaluation.json").read_text(encoding="utf-8"))
    text = detect_page.sections["accuracy"]
    for value in (evaluation["metrics"]["AP50"], evaluation["operating_point"]["precision"]):
        assert f"{value:.4f}" in text
    header = detect_page.text.partition("<nav")[0]
    assert f">{evaluation['metrics']['AP50']:.4f}<" in header
    assert "HOTA" in header


@pytest.mark.parametrize("which", ["detect", "semantic"])
def test_every_convention_is_shown(which, request):
    folder, page = request.getfixturevalue(f"{which}_run").folder, request.getfixturevalue(f"{which}_page")
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    for key in evaluation["conventions"]:
        assert key.replace("_", " ") in page.sections["accuracy"]


def test_the_baseline_stands_beside_the_headline(detect_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    baseline = {"metric": "AP50", "model": 0.4321, "value": 0.1234, "what": "one box per class"}
    evaluation["conventions"]["baseline"] = baseline
    write_sealed_json(folder / "evaluation.json", evaluation)
    text = Page(write_report(folder).path.read_text(encoding="utf-8")).sections["accuracy"]
    assert "AP50 beside a predictor that never looks at the pictures" in text
    assert "0.4321" in text
    assert "0.1234" in text


def test_pictures_are_small_jpegs(page):
    pictures = [a for t, a in page.tags if t == "img"]
    assert len(pictures) >= 10
    assert all(a["src"].startswith("data:image/jpeg;base64,") and a["alt"] for a in pictures)
    assert max(len(a["src"]) for a in pictures) < 300_000
    assert len(page.text) < 5_000_000


def test_unchanged_data_is_said(page):
    assert "yes: the digest of every image and label is the run's" in page.sections["data"]


def test_the_page_is_the_same_when_made_again(detect_run, detect_page, tmp_path):
    again = write_report(detect_run.folder, tmp_path / "again.html")
    assert again.path.read_text(encoding="utf-8") == detect_page.text


def test_changed_data_is_said_and_not_drawn(detect_run, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(detect_run.data, data)
    assert read_data_now(read_run(detect_run.folder), data).unchanged is True, "moved is not changed"
    picture = data / "train" / "train00.png"
    image = Image.open(picture).convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.save(picture)
    page = Page(write_report(detect_run.folder, tmp_path / "changed.html", data=data).path.read_text(encoding="utf-8"))
    assert "NO: images or labels differ" in page.sections["data"]
    assert "The data has changed since the run" in page.sections["pictures"]


def test_absent_data_is_said(detect_run, tmp_path):
    page = Page(write_report(detect_run.folder, tmp_path / "a.html", data=tmp_path / "none").path.read_text("utf-8"))
    assert "the data could not be read" in page.sections["data"]
    assert "objects: größe & co" in page.sections["data"], "the counts the run recorded are still there"
    assert "The data could not be read" in page.sections["pictures"]


def test_a_run_of_nothing_invents_nothing(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    result = write_report(tmp_path)
    page = Page(result.path.read_text(encoding="utf-8"))
    assert list(page.sections) == SECTIONS
    assert page.numbers == []
    for name in ("training", "accuracy", "latency", "tracking"):
        assert "not measured in this run" in page.sections[name]
        assert result.sections[name] is False
    assert "No headline number was measured" in page.text


@pytest.mark.parametrize(
    ("name", "part", "section"),
    [
        ("evaluation.json", "evaluation", accuracy_section),
        ("metrics.jsonl", "epochs", training_section),
        ("video.json", "video", latency_section),
        ("export.json", "export", export_section),
        ("tracking.json", "tracking", tracking_section),
        ("audit.json", "audit", lambda record: data_section(record, DataNow(None, None, None, "not asked for"))),
        ("predictions.parquet", "predictions", lambda record: pictures_section(record, read_data_now(record))),
    ],
)
def test_each_part_may_be_missing(detect_run, tmp_path, name, part, section):
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    assert getattr(read_run(folder), part)
    (folder / name).unlink()
    record = read_run(folder)
    assert not getattr(record, part)
    assert re.search(r"not measured|was exported|no predictions|No audit", section(record).missing)
    assert headline(record), "what was measured still leads the page"


def test_losses_classes_and_gradients_over_the_epochs_are_drawn(detect_run):
    charts = next(b.charts for b in training_section(read_run(detect_run.folder)).blocks if b.kind == "charts")
    told = " ".join(charts)
    for text in ("Training loss by term", "Validation loss by term", "Validation AP by class", "Gradients before"):
        assert text in told
    assert "Range of the outputs" not in told, "what a run did not measure has no chart"


def test_strips_are_shown_at_their_own_size(detect_run, detect_page):
    shown = [a for t, a in detect_page.tags if t == "img" and "strip-1-valid03.jpg" in a["alt"]]
    with Image.open(detect_run.folder / "figures" / "strip-1-valid03.jpg") as strip:
        assert [(int(a["width"]), int(a["height"])) for a in shown] == [strip.size]
    assert detect_page.text.count('class="pictures strips"') == 1


def texts_of(chart) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", str(chart))


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 13, 100])
def test_no_epoch_is_named_twice(epochs):
    points = [(float(e), 1.0 / e) for e in range(1, epochs + 1)]
    chart = curve_chart("a", "Title", {"loss": points}, x_title="epoch", y_title="loss", zero_y=True, x_whole=True)
    ticks = [text for text in texts_of(chart) if text.isdigit() and text != "0"]
    assert len(ticks) == len(set(ticks)) >= min(epochs, 3)


@pytest.mark.parametrize(("best", "anchor"), [(1, "start"), (28, "end")])
def test_the_best_epoch_is_named_towards_the_middle(best, anchor):
    points = [(float(e), 0.5) for e in range(1, 29)]
    marker = (float(best), f"best: {best}")
    chart = curve_chart("a", "T", {"dice": points}, x_title="epoch", y_title="dice", unit_y=True, marker=marker)
    label = re.search(rf"<text ([^>]*)>best: {best}</text>", str(chart))[1]
    assert (re.search(r'text-anchor="(\w+)"', label) or [None, "start"])[1] == anchor


def test_losses_that_span_decades_have_a_logarithmic_axis(detect_run, tmp_path):
    def charts_of(smallest):
        rows = [{"epoch": e, "train/box": 2.0 / e, "train/dfl": smallest, "lr": 10.0**-e} for e in range(1, 6)]
        folder = tmp_path / f"run{smallest}"
        folder.mkdir()
        write_sealed_json(folder / "run.json", {"task": "detect"})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        blocks = training_section(read_run(folder)).blocks
        return next(texts_of("".join(b.charts)) for b in blocks if b.kind == "charts")

    assert "loss, logarithmic" in charts_of(0.001)
    assert {"0.01", "0.1", "1"} <= set(charts_of(0.0012))
    for ordinary in (0.5, 0.0):
        assert "loss" in charts_of(ordinary)
        assert "rate" in charts_of(ordinary + 0.1), "a learning rate is read on a plain axis"


def test_predictions_other_than_the_evaluated_ones_are_noticed(detect_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    predictions = Predictions.load(folder / "predictions.parquet")
    replace(predictions, table=predictions.table.head(3)).save(folder / "predictions.parquet")
    rows = [row for block in origin_section(read_run(folder)).blocks for row in getattr(block, "rows", ())]
    verdict = dict(row for row in rows if row[0] == "evaluation is of these predictions")
    assert re.fullmatch(r"NO: of [0-9a-f]{64}", verdict["evaluation is of these predictions"])


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("run.json", '{\n"a": 1,\n', "run.json: must be JSON, got: Expecting property name"),
        ("run.json", "[1]", "must be a JSON object, got a list"),
        ("metrics.jsonl", '{"epoch": 1}\n{"epoch": 2', "metrics.jsonl:2: must be JSON"),
        ("evaluation.json", "", "evaluation.json:1: must be JSON"),
        ("predictions.parquet", "x", "must be a predictions file"),
    ],
)
def test_damaged_parts_are_refused(detect_run, tmp_path, name, text, part):
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    (folder / "report.html").unlink(missing_ok=True)
    (folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        write_report(folder)
    assert part in str(caught.value)
    assert not (folder / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be a run folder with a run\.json"):
        write_report(tmp_path)


def test_an_output_that_cannot_be_written_is_said(detect_run, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(SightlineError, match="cannot write the report"):
        write_report(detect_run.folder, tmp_path / "taken")


def test_many_classes_still_fit(detect_run, tmp_path):
    """Eighty classes: a band instead of eighty curves, a heat map and the worst confusions instead of 6561 cells."""
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    names = [f"class {i}" for i in range(80)]
    evaluation["per_class"] = [{**evaluation["per_class"][0], "class_id": i, "class": n} for i, n in enumerate(names)]
    evaluation["confusion"] = [[(r * c) % 7 for c in range(81)] for r in range(81)]
    curves = evaluation["curves"]
    curves["class_names"], curves["precision"] = names, [curves["precision"][0]] * 80
    write_sealed_json(folder / "evaluation.json", evaluation)
    blocks = accuracy_section(read_run(folder)).blocks
    assert "The most frequent confusions" in [getattr(block, "caption", "") for block in blocks]
    assert "matrix" not in [block.kind for block in blocks]
    charts = [chart for block in blocks if block.kind == "charts" for chart in block.charts]
    assert sum(map(len, charts)) < 3_000_000


def test_an_evaluation_without_objects(detect_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    evaluation["metrics"] = dict.fromkeys(evaluation["metrics"])
    for key in ("precision", "recall", "f1"):
        evaluation["operating_point"][key] = None
    curves = evaluation["curves"]
    curves["precision"] = [[None] * 101] * 3
    for key in ("mean_precision", "pooled_f1", "pooled_precision", "pooled_recall"):
        curves[key] = [None] * 101
    write_sealed_json(folder / "evaluation.json", evaluation)
    record = read_run(folder)
    assert [block.kind for block in accuracy_section(record).blocks].count("charts") == 0
    assert [tile.label for tile in headline(record)] == ["HOTA", "Slowest stage, p95"]


def test_the_confusion_matrix_is_not_turned(detect_run):
    record = read_run(detect_run.folder)
    (matrix,) = [block for block in accuracy_section(record).blocks if block.kind == "matrix"]
    expected = record.evaluation["confusion"]
    assert [[cell.value for cell in row] for row in matrix.cells] == expected
    assert expected != [list(column) for column in zip(*expected, strict=True)]
    assert matrix.names == [*detect_run.dataset.class_names, "background"]
    for row, shares in zip(expected, matrix.shares, strict=True):
        assert shares == [value / sum(row) for value in row]


def test_remarks_that_repeat_are_cut_and_counted(detect_run, tmp_path):
    remark = {"code": "label-tiny", "severity": "info", "message": "small", "count": 1, "do": ""}
    fault = {**remark, "code": "label-malformed", "severity": "error", "message": "broken"}
    shutil.copytree(detect_run.folder, tmp_path / "run")
    write_sealed_json(tmp_path / "run" / "audit.json", {"images": 1, "findings": [remark] * 9 + [fault] * 5})
    page = write_report(tmp_path / "run").path.read_text()
    assert (page.count("label-tiny"), page.count("label-malformed")) == (3, 5)
    assert "14 in all; 6 more in audit.json" in page


def test_every_split_that_was_measured_is_shown(detect_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(detect_run.folder, folder)
    other = json.loads((folder / "evaluation.json").read_text())
    other["conventions"] |= {"split": "test", "images": 77}
    other["warnings"] = ["class ids look one too high"]
    write_sealed_json(folder / "evaluation-test.json", other)
    section = accuracy_section(read_run(folder))
    table = next(block for block in section.blocks if getattr(block, "caption", "") == "Splits")
    assert [row[0] for row in table.rows] == [other["conventions"]["split"] if i else "val" for i in range(2)]
    assert table.rows[1][1].value == 77
    write_sealed_json(folder / "evaluation.json", other)
    notes = [block.text for block in accuracy_section(read_run(folder)).blocks if hasattr(block, "text")]
    assert "class ids look one too high" in notes
