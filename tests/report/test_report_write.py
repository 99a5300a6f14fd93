"""The files of a report: deterministic, complete, safe, and self-contained."""

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.grpo.metrics import METRICS
from restrl.report import figures, theme
from restrl.report.captions import FIGURES
from restrl.report.data import ReportData
from restrl.report.page import render_page
from restrl.report.write import render_figure, write_report

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects elements, checks that they nest, and keeps the visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.stack, self.text = [], [], [], ""
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report written once, with a page; the tests only read it."""
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location("report_example", Path(__file__).with_name("conftest.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    out = tmp_path_factory.mktemp("report")
    return out, write_report(module.build_report(), out)


@pytest.mark.parametrize("name", ["results", "spread"])
def test_same_data_gives_the_same_figure_whatever_the_user_has_set(written, report, name):
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None, "lines.linewidth": 9}):
        again = render_figure(name, report)
        assert mpl.rcParams["font.size"] == 30
    assert again is not None
    for suffix, content in again.items():
        assert content == written[1][f"figures/{name}.{suffix}"].read_bytes()


def test_same_data_gives_the_same_page(written, report):
    svgs = {name: written[1][f"figures/{name}.svg"].read_text() for name in FIGURES}
    assert render_page(report, svgs) == written[1]["report.html"].read_text()
    for name, svg in svgs.items():
        assert "<dc:date>" not in svg, f"{name} holds a date"


def test_every_figure_and_table_is_there(written):
    out, paths = written
    names = {f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("svg", "png")}
    assert set(paths) == names | {"table.txt", "table.md", "results.json", "report.html"}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(paths)
    page = Page(paths["report.html"].read_text())
    assert page.tags.count("svg") == page.tags.count("figure") == page.tags.count("figcaption") == len(FIGURES)
    assert paths["figures/results.png"].read_bytes().startswith(b"\x89PNG")


def test_page_asks_for_nothing_outside_itself(written):
    text = written[1]["report.html"].read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith("#"), (tag, name, value)
        assert not name.startswith("on")
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_hostile_text_is_shown_and_not_obeyed(written, report, hostile):
    page = Page(written[1]["report.html"].read_text())
    assert page.text.count(hostile.replace("\x00", "\ufffd")) == 2
    names = (hostile, "<b>$x_1$</b>\x00")
    rows = tuple(dataclasses.replace(row, name=name) for row, name in zip(report.rows, names, strict=False))
    evil = dataclasses.replace(
        report, title=hostile, recipe=hostile, rows=rows, environment={hostile: hostile}, timings={hostile: 1.0}
    )
    image = render_figure("results", evil)
    assert image is not None
    evil_page = Page(render_page(evil, {"results": image["svg"].decode()}))
    assert not {"script", "img"} & set(evil_page.tags)
    assert "$x_1$" in evil_page.text
    ElementTree.fromstring(image["svg"])


def test_ids_are_unique_and_references_resolve(written):
    page = Page(written[1]["report.html"].read_text())
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    text = written[1]["report.html"].read_text()
    references = set(re.findall(r"url\(#([^)]*)\)", text)) | set(re.findall(r'href="#([^"]*)"', text))
    assert references and references <= set(ids)


def test_drawings_take_the_colours_of_the_page(written):
    text = written[1]["report.html"].read_text()
    body = text[text.index("</style>") :]
    assert "var(--purple)" in body
    left = set(re.findall(r"#[0-9a-f]{6}\b", body))
    assert left <= {"#000000"}, "a colour of a figure is not in the theme, so it would not follow dark mode"
    assert all(f"--{name}:{dark}" in text for name, (_, dark) in theme.COLOURS.items())


def test_missing_parts_are_named_and_their_old_figures_removed(report, tmp_path):
    write_report(report, tmp_path)
    bare = dataclasses.replace(
        report,
        spread=None,
        training=(),
        value=None,
        curves=(),
        differences=(),
        costs=(),
        examples=(),
        notes=(),
        timings={},
    )
    paths = write_report(bare, tmp_path)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["results.png", "results.svg"]
    page = Page(paths["report.html"].read_text())
    assert page.tags.count("svg") == 1
    assert "Not in this run: budget curves, differences between methods, the reward spread" in page.text


def test_an_empty_report_is_a_page_too(tmp_path):
    paths = write_report(ReportData("Nothing yet", "", ()), tmp_path)
    assert "This run has no evaluation yet." in Page(paths["report.html"].read_text()).text
    assert not list((tmp_path / "figures").iterdir())


@pytest.mark.parametrize("name", ["rows", "curves", "training"])
def test_one_of_each_is_enough_to_draw(report, name):
    small = ReportData("t", "", **{"rows": (), name: getattr(report, name)[:1]})
    figure = {"rows": "results", "curves": "budget", "training": "training"}[name]
    assert render_figure(figure, small) is not None


def test_every_panel_is_a_defined_training_metric():
    assert set(figures.TRAINING_PANELS) <= set(METRICS)


def test_steps_of_a_second_iteration_follow_the_first():
    records = [{"step": 1, "reward": 0.1}, {"step": 2, "reward": float("nan")}, {"step": 1, "reward": 0.3}]
    assert figures._series(records, "reward") == [(1, 0.1), (3, 0.3)]


def relative_luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_colours_have_contrast_on_the_surface(mode):
    surface = relative_luminance(theme.COLOURS["surface"][mode])
    for name in ("ink", "muted", *theme.MARKERS):
        shade = relative_luminance(theme.COLOURS[name][mode])
        ratio = (max(surface, shade) + 0.05) / (min(surface, shade) + 0.05)
        assert ratio >= 4.0, (name, ratio)


def test_colours_are_unique_and_methods_keep_theirs():
    assert len({light for light, _ in theme.COLOURS.values()}) == len(theme.COLOURS)
    chosen = theme.method_colours(["base", "mine", "ReST-RL", "yours"])
    assert chosen["base"] == "grey" and chosen["ReST-RL"] == "purple"
    assert len(set(chosen.values())) == 4


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_labels_keep_their_order_and_distance_and_stay_inside(positions):
    placed = theme.spread_labels(positions, 0.1, 0.0, 1.0)
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    ordered = [placed[i] for i in order]
    assert all(b - a >= 0.1 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert min(placed) >= -1e-9 and max(placed) <= 1 + 1e-9
    if all(b - a >= 0.1 for a, b in itertools.pairwise(sorted(positions))):
        assert placed == pytest.approx(positions, abs=1e-9)
