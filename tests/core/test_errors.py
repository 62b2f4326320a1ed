"""The error tree: one sentence, the right exit code, and it survives a process boundary."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from sightline.core import errors
from sightline.core.errors import DataError, InputError, SightlineError, at, nearest, unknown_name

KINDS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SightlineError)]


def fail() -> None:
    raise DataError("a box must have area, got 0 x 5", where="a.xml:3", do="fix the label")


def test_the_tree():
    assert {kind.__name__ for kind in KINDS} >= {"InputError", "DataError", "ConfigError", "ModelError", "SourceError"}
    for kind in KINDS:
        assert kind("x").exit_code == (2 if issubclass(kind, InputError) else 1)


@pytest.mark.parametrize(
    ("where", "do", "expected"),
    [
        (None, None, "a must be b, got c."),
        ("file.yaml:3", None, "file.yaml:3: a must be b, got c."),
        (None, "choose b.", "a must be b, got c. Choose b."),
        ("file.yaml", "choose b", "file.yaml: a must be b, got c. Choose b."),
    ],
)
def test_sentence_shape(where, do, expected):
    for what in ("a must be b, got c", "a must be b, got c."):
        assert str(SightlineError(what, where=where, do=do)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_everything(kind):
    error = kind("what", where="here", do="do this")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.what, back.where, back.do, str(back)) == (error.what, error.where, error.do, str(error))


def test_it_crosses_a_process_boundary():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(DataError) as caught:
        pool.submit(fail).result()
    assert str(caught.value) == "a.xml:3: a box must have area, got 0 x 5. Fix the label."


def test_place():
    assert at("a/b.xml", 12) == "a/b.xml:12"
    assert at("a/b.xml") == "a/b.xml"


def test_nearest_names():
    known = ["yolo11n", "unet", "unet-small"]
    assert nearest("yolo11m", known)[0] == "yolo11n"
    assert nearest("UNet_Small", known)[0] == "unet-small"
    assert nearest("zzzz", known) == []
    assert unknown_name("model", "yolo11m", known) == "unknown model 'yolo11m' (nearest: yolo11n)"
    assert unknown_name("model", "zzzz", known) == "unknown model 'zzzz' (known: unet, unet-small, yolo11n)"
