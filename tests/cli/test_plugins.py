"""Plug-ins: the page's own files and commands, installed ones, and what is said of broken ones."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.test_run import film
from tests.infer.artefacts import metadata, numbered_image, write_onnx

import sightline as package
from sightline.core import plugins
from sightline.core.errors import ConfigError
from sightline.models import create, read_weights_meta
from sightline.synth import generate
from sightline.testing import check_model, check_tracker
from sightline.track import create_tracker

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


@pytest.fixture(autouse=True)
def nothing_stays():
    before = set(plugins._STATE.owners), dict(plugins._STATE.loaded)
    yield
    plugins._drop([entry for entry in plugins._STATE.owners if entry not in before[0]])
    plugins._STATE.loaded = before[1]


@pytest.fixture
def page(tmp_path):
    """The page's files, with data and a model of two classes beside them; the commands of each file."""
    for index in range(3):
        image, label = (tmp_path / "traffic" / kind / "val" / f"{index}" for kind in ("images", "labels"))
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbered_image(200 + index)).save(image.with_suffix(".png"))
        label.with_suffix(".txt").write_text("0 0.25 0.375 0.34 0.5\n")
    (tmp_path / "traffic" / "data.yaml").write_text("path: .\nval: images/val\nnames: [car, bus]\n")
    (tmp_path / "traffic" / "video").mkdir()
    film(tmp_path / "traffic" / "video" / "traffic.mp4")
    write_onnx(tmp_path / "detector.onnx", metadata())
    commands, name = {}, ""
    for kind, block in re.findall(r"```(python|console)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        if kind == "python":
            name = block.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block, encoding="utf-8")
        else:
            commands[name] = [shlex.split(line)[1:] for line in block.splitlines()]
    assert sorted(commands) == ["counting.py", "counts.py", "overlap.py", "pixels.py", "tsv.py"]
    return commands


def run_all(sightline, commands):
    done = [sightline(*words) for words in commands]
    for each in done:
        assert each.returncode == 0, each.stderr
    return done


def test_a_format_is_recognised_audited_looked_at_and_converted(sightline, page, tmp_path):
    (tmp_path / "boxes").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(numbered_image(ord(name[0]))).save(tmp_path / "boxes" / name)
    lines = ["a.png\tcar\t8\t8\t40\t40", "a.png\tbus\t50\t10\t90.5\t60", "b.png\tcar\t9\t9\t41\t41", "c.png"]
    (tmp_path / "boxes" / "boxes.tsv").write_text("\n".join(lines) + "\n")
    audited, looked, converted = run_all(sightline, page["tsv.py"])
    assert "tsv · detect · 3 images · 3 objects · 2 classes" in audited.stdout
    assert "bus: 1 of 1 objects" in looked.stdout
    assert "read back: 3 images, 3 objects" in converted.stdout
    written = package.read_dataset(tmp_path / "coco")
    assert written.class_names == ("bus", "car")
    assert written.objects.sort("x1")["x2"].to_list() == [40, 41, 90.5]


def test_a_model_is_trained_measured_and_run(sightline, page, tmp_path):
    generate("cracks", tmp_path / "cracks", images=5, val_fraction=0.4, size_hw=(64, 64), seed=1)
    _, measured, ran = run_all(sightline, page["pixels.py"])
    assert "mean_dice" in measured.stdout
    assert len(list((tmp_path / "outputs" / "cracks-masks").iterdir())) == 2, ran.stdout
    assert read_weights_meta("runs/semantic/mine/weights/best.safetensors").architecture == "pixels"
    check_model(create("pixels", class_names=["background", "crack"]))


def test_a_tracker_gives_ids(sightline, page, tmp_path):
    run_all(sightline, page["overlap.py"])
    rows = list(csv.DictReader((tmp_path / "tracked" / "traffic.csv").read_text().splitlines()))
    assert {row["track_id"] for row in rows} >= {"1"}
    check_tracker(lambda: create_tracker("overlap"))


def test_a_sink_writes_a_line_for_each_frame(sightline, page, tmp_path):
    run_all(sightline, page["counts.py"])
    assert len((tmp_path / "counted" / "traffic-counts.csv").read_text().splitlines()) == 7


def test_a_metric_stands_beside_the_others_in_print_in_json_and_in_python(sightline, page):
    words = page["counting.py"][0]
    (printed,) = run_all(sightline, [words])
    assert re.search(r"count_error +\d\.\d{4}", printed.stdout), printed.stdout
    (as_json,) = run_all(sightline, [[*words, "--json"]])
    measured = json.loads(as_json.stdout)
    assert measured["conventions"]["metrics of plug-ins"] == "count_error"
    # One object in each of three pictures; two are found in each above a score of 0.5.
    assert measured["metrics"]["count_error"] == package.Model("detector.onnx").val("traffic")["count_error"] == 1.0
    package.register_metric("AP", lambda *_: 1.0)
    done = sightline(*words)
    assert (done.returncode, "metric 'AP' of a plug-in must have a name of its own" in done.stderr) == (2, True)


BROKEN = {
    "import sightline\n\nx = {}['a']\n": ("broken.py:3: plug-in 'broken.py' cannot be loaded: KeyError: 'a'", "audit"),
    "def (\n": ("broken.py:1: plug-in 'broken.py' cannot be loaded: SyntaxError", "split"),
    "raise SystemExit(0)\n": ("plug-in 'broken.py' cannot be loaded: SystemExit: 0", "models"),
    "x = 1\n": ("must register something, got none of: format, model, tracker, metric, sink", "train"),
    "import sightline\nsightline.register_tracker('kalman-iou', dict)\n": (
        "'broken.py' adds the tracker 'kalman-iou', which exists already",
        "run",
    ),
    "import sightline\nsightline.register_model('a b', dict)\n": ("a model must have a name of letters", "eval"),
    "import sightline\nsightline.register_metric('a', dict, tasks=['boxes'])\n": ("must be some of detect", "eval"),
    "import sightline\nsightline.register_sink('a', 3, ending='.a')\n": ("'create' of sink 'a' must be a", "run"),
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_plugin_is_one_sentence_with_its_name_and_exit_code_2(sightline, tmp_path, code):
    (tmp_path / "broken.py").write_text(code)
    said, verb = BROKEN[code]
    done = sightline(verb, "x", "--plugin", "broken.py")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not plugins.list_plugins()  # nothing of it is left


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plugin",), "must be followed by a Python file"),
        (("--plugin", "nowhere.py"), "nowhere.py: a plug-in must be a file that can be read (No such file"),
        (("--plugin", "."), "a plug-in must be a Python file that ends in .py, got '.'"),
    ],
)
def test_what_is_no_plugin_is_refused(sightline, words, said):
    done = sightline("audit", "x", *words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_plugin_that_fails_at_work_is_named_with_its_line(sightline, page, tmp_path):
    (tmp_path / "late.py").write_text("import sightline\n\nsightline.register_tracker('late', lambda given: 1 / 0)\n")
    done = sightline("run", "detector.onnx", "traffic/video", "--tracker", "late", "--plugin", "late.py")
    assert done.returncode == 2
    assert "late.py:3: plug-in 'late.py' failed: ZeroDivisionError" in done.stderr


def test_a_name_is_taken_once_and_a_file_loaded_once(tmp_path):
    code = "import sightline\nsightline.register_sink('mine', print, ending='.x')\n"
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(code)
    first = package.load_plugin(tmp_path / "a.py")
    assert package.load_plugin(tmp_path / "a.py") is first
    assert first.adds == (("sink", "mine"),)
    with pytest.raises(ConfigError, match=r"'b\.py' adds the sink 'mine', which exists already of plug-in 'a\.py'"):
        package.load_plugin(tmp_path / "b.py")


def installed(folder, name, code, value=None):
    """A distribution as pip leaves it: a module and a dist-info folder with an entry point."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sightline.plugins]\n{name} = {value or name}\n")
    (folder / f"{name}.py").write_text(code)


def test_installed_plugins_are_found_and_listed(sightline, page, tmp_path, monkeypatch):
    site = tmp_path / "site"
    installed(site, "trackers_of_ours", (tmp_path / "overlap.py").read_text())
    monkeypatch.syspath_prepend(str(site))
    film_words = ("run", "detector.onnx", "traffic/video", "--tracker", "overlap", "--save", "csv")
    done = sightline(*film_words)
    assert done.returncode == 0, done.stderr
    checked = sightline("doctor")
    assert re.search(r"plug-in trackers_of_ours +trackers_of_ours 1\.0: tracker overlap +ok", checked.stdout)


def test_a_broken_installed_plugin_stops_verbs_but_not_doctor_and_help(sightline, tmp_path, monkeypatch):
    installed(tmp_path / "site", "broken_of_ours", "import nothing_of_this_name\n")
    installed(tmp_path / "site", "odd_of_ours", "", value="odd_of_ours:function")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = sightline("audit", "x")
    assert done.returncode == 2
    assert "broken_of_ours.py:1: plug-in 'broken_of_ours' cannot be loaded: ModuleNotFoundError" in done.stderr
    assert "Mend or uninstall it" in done.stderr
    listed = sightline("doctor", "--json")
    broken = {c["name"]: c["found"] for c in json.loads(listed.stdout)["checks"] if not c["ok"]}
    assert listed.returncode == 1
    assert "must name a module, got 'odd_of_ours:function'" in broken["plug-in odd_of_ours"]
    assert "nothing_of_this_name" in broken["plug-in broken_of_ours"]
    assert sightline("--help").returncode == 0
