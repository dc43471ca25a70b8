"""The report page in a real browser: nothing fetched, nothing wrong, in reach of keyboard, phone and paper."""

import base64
import contextlib
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.records.evaluation import Evaluation
from pipeline.records.predictions import Predictions
from pipeline.report import pictures
from pipeline.report.page import breakable
from pipeline.report.sections import NAMES
from pipeline.stages import report
from pipeline.tracking import runs
from tests import browser, fake_study
from tests.small_study import Untracked

MODELS = ("cnn", "vit", "hybrid")
PUBLISHED = {"table": "Table 1", "dataset": "digits", "rows": {"CNN": {"model": "cnn", "accuracy": 0.9}}}


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Browser]:
    with browser.started() as opened:
        yield opened


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up study with its report."""
    browser.executable()  # without one it is not made
    folder = fake_study.write(
        tmp_path_factory.mktemp("page"), MODELS, replicates=(0, 1), epochs=3, published=[PUBLISHED]
    )
    fake_study.write_explanations(folder / "reports", MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "report_run", lambda: contextlib.nullcontext(Untracked()))
        report.main()
    return folder


@pytest.fixture
def page(written: Path, tab: browser.Browser) -> browser.Browser:
    """The page, freshly opened in a window of a laptop's width."""
    tab.look(1280)
    tab.open(written / "reports/report.html")
    return tab


def test_the_page_asks_for_nothing_and_complains_of_nothing(page: browser.Browser, written: Path) -> None:
    address = (written / "reports/report.html").as_uri()
    assert page.messages == []
    assert [request for request in page.requests if not request.startswith("data:")] == [address]


def test_a_table_is_sorted_by_a_heading_and_back_with_the_keyboard_alone(page: browser.Browser, written: Path) -> None:
    scores = json.loads((written / "reports/metrics.json").read_text())["models"]
    ranked = sorted(MODELS, key=lambda model: -scores[model]["parameters"])
    names = "[...document.querySelectorAll('#comparison tbody th')].map(cell => cell.textContent.trim())"
    heading = "[...document.querySelectorAll('#comparison thead th')].find(each => each.textContent == 'Parameters')"
    assert page.evaluate(names) == list(MODELS)
    page.evaluate(f"{heading}.querySelector('button').focus()")
    page.press("Enter")
    assert page.evaluate(names) == ranked  # the largest first; as text, 466 k would come before 3.02 M
    assert page.evaluate(f"{heading}.getAttribute('aria-sort')") == "descending"
    page.press("Enter")
    assert page.evaluate(names) == ranked[::-1]
    assert page.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"


def test_a_pair_of_models_is_picked_with_the_keyboard_and_compared(page: browser.Browser, written: Path) -> None:
    page.evaluate("document.getElementById('second').focus()")
    page.press("ArrowDown")
    assert page.evaluate("document.getElementById('second').value") == "hybrid"
    counts = {}
    for model in MODELS:
        files = (written / f"reports/evaluations/{model}-{replicate}.json" for replicate in (0, 1))
        counts[model] = sum(np.array(Evaluation.read(path).confusion) for path in files)
    shares = {model: each / each.sum(1, keepdims=True) for model, each in counts.items()}
    gap = shares["cnn"] - shares["hybrid"]
    np.fill_diagonal(gap, 0)
    actual, predicted = np.unravel_index(abs(gap).argmax(), gap.shape)
    told = page.evaluate("document.getElementById('told').textContent")
    assert f"{'−' if gap[actual, predicted] < 0 else '+'}{100 * abs(gap).max():.1f} points" in told
    hints = page.evaluate(
        "[...document.querySelectorAll('#compared svg')].map(svg => svg.querySelectorAll('rect').length)"
    )
    assert hints == [100, 100, 100]
    hint = f"{actual} taken for {predicted}: {counts['hybrid'][actual, predicted]} ("
    second = "document.querySelectorAll('#compared svg')[1]"
    titles = page.evaluate(f"[...{second}.querySelectorAll('title')].map(each => each.textContent)")
    assert [each for each in titles if each.startswith(hint)]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window_but_what_scrolls_by_itself(page: browser.Browser, width: int) -> None:
    page.look(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll, svg, .unseen')
        && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 100))"""
    assert page.evaluate(beyond) == []
    page.evaluate("""document.querySelector('main').insertAdjacentHTML('beforeend', `<div class="scroll" id="wide">
        <div style="width: 2000px; text-align: right"><span class="unseen">not distinguishable</span></div></div>`)""")
    within = page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.getElementById('wide').remove()")
    assert within, "words for those who listen widen the page"


CONTRAST = """(() => {
  const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = colour => { const [r, g, b] = colour.map(v => v / 255).map(
    v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const ground = element => { for (; element; element = element.parentElement) {
    const found = parse(getComputedStyle(element).backgroundColor); if (found[3] === 1) return found; }
    return [255, 255, 255]; };
  const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || element.closest('script, #compared svg, title, #confusion_matrices, option')
      || !element.getClientRects().length || element.closest('.unseen')) continue;
    const colour = parse(element instanceof SVGElement ? style.fill : style.color);
    if (element.closest('svg') && element.closest('[id^=confusion_matrices]')) continue;  // counts on their cells
    const [a, b] = [light(colour), light(ground(element))].sort((x, y) => y - x);
    count++;
    if ((a + .05) / (b + .05) < 4.5) faint.push([walker.currentNode.data.trim().slice(0, 40), style.color, style.fill]);
  }
  return {count, faint};
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_its_ground(page: browser.Browser, scheme: str) -> None:
    page.look(1280, scheme)
    found = page.evaluate(CONTRAST)
    assert found["count"] > 300
    assert found["faint"] == []


def test_the_cells_of_the_drawn_matrices_can_be_read_in_both_schemes(page: browser.Browser) -> None:
    cells = """[...document.querySelectorAll('#compared rect')].map(box => {
      const text = box.nextElementSibling;
      return text && text.matches('text:not(.axis)') ? [box.getAttribute('fill'), text.getAttribute('fill')] : null;
    }).filter(Boolean)"""
    grounds = set()
    for scheme in ("light", "dark"):
        page.look(1280, scheme)
        found = page.evaluate(cells)
        assert len(found) > 60
        for ground, text in found:
            ink = tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))
            paper = tuple(map(int, ground[4:-1].split(",")))
            lights = sorted((luminance(ink), luminance(paper)))
            assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.0, (ground, text)
            grounds.add((scheme, ground))
    assert {scheme for scheme, _ in grounds} == {"light", "dark"}
    assert {ground for scheme, ground in grounds if scheme == "light"} != {
        ground for scheme, ground in grounds if scheme == "dark"
    }  # drawn anew for the other scheme


def luminance(colour: tuple[int, ...]) -> float:
    parts = [
        value / 255 / 12.92 if value / 255 <= 0.03928 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    ]
    return float(np.dot((0.2126, 0.7152, 0.0722), parts))


def test_pictures_controls_and_regions_have_names_and_headings_their_order(page: browser.Browser) -> None:
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    for role in ("image", "img", "region", "combobox", "MenuListPopup", "button", "link", "navigation"):
        nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] == role]
        assert all(node.get("name", {}).get("value") or role == "MenuListPopup" for node in nodes), role
    assert len([node for node in tree if node["role"]["value"] in ("image", "img") and not node["ignored"]]) > 20
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


def test_every_section_can_be_reached_with_the_tab_key_in_order(page: browser.Browser) -> None:
    seen = []
    for _ in range(6):
        page.press("Tab")
        seen.append(page.evaluate("document.activeElement.getAttribute('href')"))
    assert seen[:3] == ["#pairs", "#comparison", "#pairs"]
    sections = page.evaluate("[...document.querySelectorAll('section')].map(each => '#' + each.id)")
    linked = page.evaluate("[...document.querySelectorAll('nav a')].map(each => each.getAttribute('href'))")
    assert linked == sections


def test_a_link_and_the_heading_that_it_leads_to_are_recognised_as_the_same(page: browser.Browser) -> None:
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(each => each.textContent.toLowerCase())")
    headings = page.evaluate("[...document.querySelectorAll('section h2')].map(each => each.textContent.toLowerCase())")
    assert len(links) == len(headings)
    for link, heading in zip(links, headings, strict=True):
        assert set(link.split()) <= set(heading.translate({ord(mark): None for mark in ":,?"}).split()), (
            f"{link} leads to {heading}"
        )


def test_long_names_are_broken_behind_underscores_where_a_table_would_not_fit(page: browser.Browser) -> None:
    name = "convnextv2_atto_fcmae_ft_in1k"
    page.look(1100)
    cut = (
        "[...document.querySelectorAll('#comparison .scroll, #pairs .scroll')].map(e => e.scrollWidth - e.clientWidth)"
    )
    heads = "document.querySelectorAll('#comparison tbody th, #pairs tbody th').forEach(e => e.innerHTML = {})"
    page.evaluate(heads.format(json.dumps(name)))
    assert max(page.evaluate(cut)) > 0
    page.evaluate(heads.format(json.dumps(breakable(name))))
    assert max(page.evaluate(cut)) <= 0
    assert breakable("<a_b>") == "&lt;a_<wbr>b&gt;"


def test_on_paper_all_is_shown_dark_on_light_within_the_page(page: browser.Browser) -> None:
    page.look(680, "dark", "print")  # 180 mm
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    wide = "[...document.querySelectorAll('main table, main figure')].filter(each => each.scrollWidth > 680)"
    assert page.evaluate(f"{wide}.map(each => each.outerHTML.slice(0, 200))") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    cut = (
        "[...document.querySelectorAll('.scroll, .tall')].filter(each => getComputedStyle(each).overflow != 'visible')"
    )
    assert page.evaluate(f"{cut}.length") == 0
    assert page.pdf().startswith(b"%PDF")


# without a browser


def test_an_image_that_is_shown_has_the_name_of_its_file(written: Path) -> None:
    html = (written / "reports/report.html").read_text()
    named = re.findall(r"<span>test image (\d+) \(([^)]+)\)</span>", html)
    images = Predictions.read(written / "reports/predictions/cnn-0.parquet").images
    assert named
    assert images is not None
    assert all(name.replace("/<wbr>", "/") == images[int(row)] for row, name in named)


@pytest.fixture
def _unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "report_run", lambda: contextlib.nullcontext(Untracked()))


def small(folder: Path, models: tuple[str, ...]) -> Path:
    return fake_study.write(folder, models, replicates=(0,), epochs=3, classes=("x", "y", "z"), images=60)


def test_names_of_classes_cannot_end_the_script_that_holds_them() -> None:
    nasty = {"classes": ["</script><b>", "<!--", "&"]}
    text = pictures.embedded(nasty)
    assert "<" not in text
    assert json.loads(text) == nasty


def test_a_picture_in_the_page_has_the_same_pixels_unless_it_is_larger_than_shown() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")

    def shown(address: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))

    assert np.array_equal(np.asarray(shown(pictures.lossless(file.getvalue())).convert("RGB")), pixels)
    assert shown(pictures.lossless(file.getvalue(), 20)).size == (20, 12)


def test_a_sheet_of_photos_in_the_page_looks_as_its_file_in_fewer_bytes() -> None:
    y, x = np.mgrid[:192, :192]
    pixels = np.stack([128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), (x + y) / 2], 2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=80, subsampling=0)
    kind, _, content = pictures.lossy(file.getvalue()).partition(",")
    assert kind == "data:image/webp;base64"
    webp = base64.b64decode(content)
    assert len(webp) < 0.6 * len(file.getvalue())
    off = np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")).astype(int) - pixels
    assert np.abs(off).mean() < 4


@pytest.mark.usefixtures("_unrecorded")
def test_images_that_may_not_be_shown_are_told_of_and_reports_without_any_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small(tmp_path, ("cnn", "vit")))
    report.main()
    assert "was not computed for this study" in Path("reports/report.html").read_text()
    fake_study.write_explanations(Path("reports"), ("cnn", "vit"), shareable=False)
    report.main()
    html = Path("reports/report.html").read_text()
    assert "may not be passed on: what the networks look at is shown without them" in html
    assert 'aria-label="What vit looks at for' in html
    assert 'aria-label="Test image' not in html
    fake_study.write_explanations(Path("reports"), ("vit",))
    with pytest.raises(StageError, match=r"of other models than params.yaml has; run `dvc repro -f explain`"):
        report.main()


@pytest.mark.usefixtures("_unrecorded")
def test_one_model_has_nobody_to_disagree_with_and_no_pair_to_pick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small(tmp_path, ("cnn",)))
    fake_study.write_explanations(Path("reports"), ("cnn",))
    report.main()
    html = Path("reports/report.html").read_text()
    assert "There is one model, so none to disagree with." in html
    assert "Where the models disagree" not in html
    assert 'id="picker"' not in html


# Names that would be more than text

HOSTILE = (
    '"}body{background:url(x)}"',
    ' style="}body{background:url(x)}" ',
    ' d="1x"',
    ' x="1,2"',
    ' points="a1"',
    ' clip-path="url(#p)" style="fill: red"',
    "<script>document.title = 'owned'</script>",
    "</style><img src=x onerror=\"document.title='owned'\">",
    "</svg><b>",
    "&lt;i&gt;&amp;",
    "]]>",
    "<!--",
    "{{ figures }}{% raw %}%s",
    "$x^2$",
    "$\\frac",
    "a_b^",
    "#1f2933",
    "url(#x)",
    "<5mm",
    ">5mm",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_study.write(
        tmp_path_factory.mktemp("hostile"), ("cnn", "vit"), replicates=(0,), epochs=2, classes=HOSTILE, images=200
    )
    fake_study.write_explanations(folder / "reports", ("cnn", "vit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "report_run", lambda: contextlib.nullcontext(Untracked()))
        report.main()
    return folder / "reports"


def test_names_of_classes_are_text_in_a_browser_whatever_they_are(hostile: Path, tab: browser.Browser) -> None:
    tab.look(1280)
    tab.open(hostile / "report.html")
    assert tab.messages == []
    assert [each for each in tab.requests if not each.startswith("data:")] == [(hostile / "report.html").as_uri()]
    assert tab.evaluate("document.title").startswith("digits: ")
    assert tab.evaluate("getComputedStyle(document.body).backgroundImage") == "none"
    assert tab.evaluate("document.querySelectorAll('svg script, svg img, svg b, img[src=x]').length") == 0
    sections = tab.evaluate("[...document.querySelectorAll('section')].map(each => each.id)")
    assert sections == [name for name in NAMES if name in sections]
    assert {"comparison", "classes", "rerun"} <= set(sections)
    for figure in ("confusion_matrices", "class_scores"):
        found = f"[...document.querySelectorAll('#{figure}-figure text')].map(each => each.textContent)"
        assert set(HOSTILE) <= set(tab.evaluate(found))


def test_a_figure_in_the_page_has_the_texts_of_its_file(hostile: Path) -> None:
    for path in sorted((hostile / "figures").glob("*.svg")):
        drawn = minidom.parse(str(path)).getElementsByTagName("text")
        shown = minidom.parseString(pictures.inline_svg(path)).getElementsByTagName("text")
        texts = [[child.data for each in found for child in each.childNodes] for found in (drawn, shown)]
        assert texts[0] == texts[1]
