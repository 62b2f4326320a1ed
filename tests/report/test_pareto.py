"""The plot of quality over cost: every name can be read, however close the models are."""

import re
from itertools import combinations

from sightline.report.pareto import pareto_chart

CROWD = [(f"model-{i}", 10 + 0.05 * i, 0.4 + 0.0005 * (i % 3)) for i in range(8)]
POINTS = [*CROWD, ("slow", 300.0, 0.41), ("a-name-that-is-longer-than-the-plot-allows", 299.0, 0.405)]


def test_names_hide_neither_each_other_nor_leave_the_plot():
    chart = str(pareto_chart("p", "AP and time", POINTS, titles_xy=("milliseconds", "AP")))
    names = {name for name, _, _ in CROWD}
    found = re.findall(
        r'<text text-anchor="middle" transform="translate\(([\d.-]+),([\d.-]+)\)[^>]*>([^<]+)</text>', chart
    )
    words = {text: (float(x), float(y)) for x, y, text in found if text in names}
    assert len(words) == len(CROWD)
    for (a, (x1, y1)), (b, (x2, y2)) in combinations(words.items(), 2):
        assert abs(x1 - x2) >= 5 * len(a) or abs(y1 - y2) >= 10, (a, b)
    assert "a-name-that-is-longer…" in chart
    assert all(0 <= x <= 310 and 0 <= y <= 300 for x, y in words.values())


def test_one_model_and_equal_ones_have_a_plot_too():
    for points in (POINTS[:1], [POINTS[0], POINTS[0]], [("free", 0.0, 0.0)]):
        assert str(pareto_chart("p", "t", points, titles_xy=("x", "y"))).count(points[0][0]) >= len(points)
