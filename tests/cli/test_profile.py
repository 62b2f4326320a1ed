"""`sightline profile`: a table, JSON, a file, and no run left behind."""

import json

import pytest

SETTINGS = ("--model", "yolo11n", "--imgsz", "64", "batch=2", "precision=fp32", "workers=0")


def test_a_table_a_file_and_json_of_the_same_parts(sightline, traffic, tmp_path):
    done = sightline("profile", "--data", traffic, *SETTINGS, "--steps", "2", "--out", "p.json")
    assert done.returncode == 0, done.stderr
    assert "yolo11n at 64 × 64 in fp32 on cpu, batch 2:" in done.stdout
    assert all(part in done.stdout for part in ("loader wait", "forward", "backward", "optimiser", "other"))
    saved = json.loads((tmp_path / "p.json").read_text())
    assert f"most time goes to: {saved['bottleneck']}" in done.stdout
    assert all(f"try {line}." in done.stdout for line in saved["advice"])
    assert sum(row["ms_per_image"] for row in saved["parts"]) == pytest.approx(saved["ms_per_image"])
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
    again = sightline("profile", "--data", traffic, *SETTINGS, "--steps", "1", "--json")
    assert json.loads(again.stdout).keys() == saved.keys()


def test_wrong_settings_are_one_sentence(sightline, traffic):
    for given, said in (
        (("--data", traffic, *SETTINGS, "--steps", "0"), "--steps"),
        (("--data", traffic, *SETTINGS, "--out", "p.txt"), "must name a file that ends in .json"),
        (("--data", traffic, *SETTINGS, "epoch=2"), "epochs"),
        (("--model", "yolo11n"), "--data must be given"),
    ):
        done = sightline("profile", *given)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert said in done.stderr
