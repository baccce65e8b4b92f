"""The page that runs the networks, as a reader uses it: drawing, picking, walking down the ladder."""

import base64
import functools
import http.server
import itertools
import json
import threading

import numpy as np
import onnxruntime
import pytest
from axe_playwright_python.sync_playwright import Axe

from dca_lab import data, studies

PAGE = "chapters/practice/try-it.html"
NETWORKS = ("original", "pruned", "quantized")
SEVEN = [(70, 70), (200, 70), (120, 230)]  # strokes on a sheet of 280 x 280
PATIENCE = 120_000  # ms: a loaded machine starts the runtime slowly

pytestmark = pytest.mark.browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(html):
    if not (html / PAGE).is_file():
        pytest.fail(f"{PAGE} is not in the book: is it in _toc.yml?")
    handler = functools.partial(Quiet, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{PAGE}"
        server.shutdown()


@pytest.fixture
def visit(chromium, site):
    """Open the page and wait for its first answer; a tab that said or asked what it must not fails its test."""
    tabs = []

    def go(address=site, *, ready=True, before=None, **options):
        tab = chromium.new_page(**{"viewport": {"width": 1200, "height": 900}} | options)
        tab.set_default_timeout(PATIENCE)
        tab.said, tab.outside = [], []
        tab.on("console", lambda message: message.type == "error" and tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        home = address.split("/chapters")[0]
        inside = (home, "data:", "blob:")
        tab.on("request", lambda r: r.url.startswith(inside) or tab.outside.append(r.url))
        if before:
            tab.add_init_script(before)
        tab.goto(address, wait_until="load")
        if ready:
            tab.wait_for_selector("#try-networks[data-state=ready]")
            tab.wait_for_function("document.querySelector('#try-breaks').textContent.includes('step')")
        tabs.append(tab)
        return tab

    yield go
    said = [(tab.said, tab.outside) for tab in tabs]
    for tab in tabs:
        tab.close()
    assert said == [([], [])] * len(tabs)


def seen(tab) -> np.ndarray:
    """The 28 x 28 bytes that the page shows as the networks' input."""
    return np.array(
        tab.evaluate(
            "() => [...document.querySelector('#try-seen').getContext('2d').getImageData(0, 0, 28, 28).data]"
            ".filter((_, i) => i % 4 === 0)"
        ),
        dtype=np.uint8,
    ).reshape(28, 28)


def shares(tab, name: str) -> np.ndarray:
    """The ten probabilities that a card shows."""
    bars = tab.locator(f"[data-network={name}] .try-bars li")
    return np.array(bars.evaluate_all("bars => bars.map(bar => Number(bar.dataset.share))"))


def expected(file: str, pixels: np.ndarray) -> np.ndarray:
    """What ONNX Runtime in Python says to these bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(studies.network(file), options)
    x = pixels[None, None].astype(np.float32) / 255
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    powers = np.exp(logits[0] - logits[0].max())
    return powers / powers.sum()


def on_paper(tab, strokes=SEVEN) -> list[tuple[float, float]]:
    """Points of the sheet as points of the window, the sheet being in view."""
    paper = tab.locator("#try-paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    return [(box["x"] + x * box["width"] / 280, box["y"] + y * box["width"] / 280) for x, y in strokes]


def draw(tab, strokes=SEVEN) -> None:
    """Draw with the mouse, and wait for the answer."""
    points = on_paper(tab, strokes)
    tab.mouse.move(*points[0])
    tab.mouse.down()
    for point in points[1:]:
        tab.mouse.move(*point, steps=8)
    tab.mouse.up()
    tab.wait_for_function("document.querySelector('#try-answer').textContent.startsWith('Your drawing')")


def check_answers(tab) -> None:
    """All three cards agree with ONNX Runtime in Python on the pixels that are shown."""
    pixels = seen(tab)
    for name in NETWORKS:
        found, wanted = shares(tab, name), expected(name, pixels)
        assert found.sum() == pytest.approx(1, abs=1e-9)
        # integer kernels may round a sum that lies between two levels up here and down there
        np.testing.assert_allclose(found, wanted, atol=0.03 if name == "quantized" else 1e-4)


def test_a_drawn_digit_is_read_by_all_three(visit):
    tab = visit()
    draw(tab)
    pixels = seen(tab)
    rows, columns = np.nonzero(pixels)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
    centre = [(pixels.sum(axis) @ np.arange(28)) / pixels.sum() for axis in (1, 0)]
    assert np.abs(np.array(centre) - 14).max() <= 0.55  # as in MNIST; bytes are rounded
    check_answers(tab)
    assert [shares(tab, name).argmax() for name in NETWORKS] == [7, 7, 7]
    assert tab.locator("#try-first input:checked, #try-hard input:checked").count() == 0
    tab.wait_for_function("document.querySelector('#try-verdict').textContent.includes('On this device')")
    for name in NETWORKS:
        for fact in ("time", "batch"):
            text = tab.locator(f"[data-network={name}] [data-fact={fact}]").text_content()
            assert float(text.removesuffix(" ms")) > 0
    tab.get_by_role("button", name="Clear").click()
    tab.wait_for_function("document.querySelector('#try-answer').textContent.startsWith('Draw a digit')")
    assert seen(tab).max() == 0 and np.isnan(shares(tab, "original")).all()


def test_a_finger_draws_too(visit):
    """A stroke of a real touch, as the browser's own input gets it: it leaves ink, and does not scroll the page."""
    tab = visit(viewport={"width": 375, "height": 800}, has_touch=True, is_mobile=True)
    points = on_paper(tab)
    scrolled = tab.evaluate("scrollY")
    screen = tab.context.new_cdp_session(tab)

    def touch(kind: str, *where: tuple[float, float]) -> None:
        screen.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in where]}
        )

    touch("touchStart", points[0])
    for begin, end in itertools.pairwise(points):
        for step in range(1, 9):
            touch("touchMove", tuple(a + (b - a) * step / 8 for a, b in zip(begin, end, strict=True)))
    touch("touchEnd")
    tab.wait_for_function("document.querySelector('#try-answer').textContent.startsWith('Your drawing')")
    assert tab.evaluate("scrollY") == scrolled
    check_answers(tab)
    assert [shares(tab, name).argmax() for name in NETWORKS] == [7, 7, 7]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 376


def test_a_tap_is_a_dot(visit):
    tab = visit(viewport={"width": 375, "height": 800}, has_touch=True, is_mobile=True)
    tab.locator("#try-paper").tap()
    tab.wait_for_function("document.querySelector('#try-answer').textContent.startsWith('Your drawing')")
    assert seen(tab).max() > 200
    check_answers(tab)


def test_a_test_image_is_picked_with_the_keyboard(visit):
    tab = visit()
    tab.locator("#try-first input").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("document.querySelector('#try-answer').textContent.includes(', a 1')")
    mnist = data.load("mnist")
    index = int(np.flatnonzero(mnist.y_test == 1)[0])
    np.testing.assert_array_equal(seen(tab), mnist.x_test.reshape(-1, 28, 28)[index])
    check_answers(tab)


def test_the_cards_show_what_the_study_stored(visit):
    tab = visit()
    stored = {entry["name"]: entry for entry in studies.load("results")["results"]["networks"]}
    for name in NETWORKS:
        for fact in ("bytes", "parameters", "macs"):
            text = tab.locator(f"[data-network={name}] [data-fact={fact}]").text_content()
            assert int(text.replace(",", "")) == stored[name][fact]
        text = tab.locator(f"[data-network={name}] [data-fact=accuracy]").text_content()
        assert float(text.removesuffix(" %")) == pytest.approx(100 * stored[name]["accuracy"], abs=0.006)


def test_the_slider_walks_down_the_ladder(visit):
    tab = visit()
    ladder = studies.load("results")["results"]["ladder"]
    tab.locator("#try-hard input").nth(5).check(force=True)
    tab.wait_for_function("document.querySelector('#try-answer').textContent.includes(', a 5')")
    pixels = seen(tab)
    wanted = [int(expected(entry["file"], pixels).argmax()) for entry in ladder]
    shown = tab.locator("#try-steps .try-step b").all_text_contents()
    assert [int(text) for text in shown] == wanted
    states = tab.locator("#try-steps .try-step").evaluate_all("s => s.map(step => step.dataset.state)")
    assert [state == "broken" for state in states] == [digit != wanted[0] for digit in wanted]
    assert any(state == "broken" for state in states) and states[0] == "sure"
    slider = tab.locator("#try-step")
    slider.focus()
    tab.keyboard.press("End")
    assert tab.locator("#try-step-label").text_content() == f"Step {len(ladder)}: {ladder[-1]['label']}"
    assert f"{100 * ladder[-1]['accuracy']:.1f} %" in tab.locator("#try-step-facts").text_content()
    facts = tab.locator("#try-step-facts").text_content()
    assert "emulated" in facts  # and what the file is beside what packed codes would take
    assert f"{ladder[-1]['bytes']:,}" in facts and f"{ladder[-1]['bytes_packed']:,}" in facts
    assert ladder[-1]["label"] in slider.get_attribute("aria-valuetext")
    np.testing.assert_allclose(shares(tab, "step"), expected(ladder[-1]["file"], pixels), atol=0.03)
    tab.keyboard.press("Home")
    assert "emulated" not in tab.locator("#try-step-facts").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 375])
def test_it_works_from_the_disk_in_both_schemes_and_widths(visit, html, scheme, width):
    """No server: what `make book` tells the reader to open. And axe finds nothing serious in either scheme."""
    size = {"width": width, "height": 800}
    tab = visit((html / PAGE).as_uri(), color_scheme=scheme, viewport=size, reduced_motion="reduce")
    draw(tab)
    check_answers(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width + 1
    findings = Axe().run(tab, options={"preload": False}).response["violations"]
    serious = [
        f"{f['id']}: {f['nodes'][0]['target']}" for f in findings if f["impact"] in ("serious", "critical")
    ]
    assert not serious


@pytest.mark.parametrize(
    ("gone", "text"), [("WebAssembly", "WebAssembly"), ("DecompressionStream", "DecompressionStream")]
)
def test_a_browser_that_cannot_run_them_is_told_so(visit, gone, text):
    tab = visit(ready=False, before=f"delete globalThis.{gone}")
    tab.wait_for_selector("#try-networks[data-state=impossible]")
    assert "cannot run" in tab.locator("#try-status").text_content()
    assert text in tab.locator("#try-status").text_content()
    assert not tab.locator("#try-paper").is_visible() and not tab.locator("#try-ladder").is_visible()


def test_a_runtime_that_does_not_start_gives_the_command_to_type(visit):
    tab = visit(ready=False, before="Object.defineProperty(globalThis, 'ortFiles', {value: {}})")
    tab.wait_for_selector("#try-networks[data-state=impossible]")
    assert "python -m http.server" in tab.locator("#try-status").text_content()
    tab.said.clear()  # the script that could not store its files said so


def test_in_print_there_are_answers_and_no_buttons(visit):
    tab = visit()
    tab.emulate_media(media="print")
    assert tab.locator("[data-network=original] .try-digit").is_visible()
    assert not tab.get_by_role("button", name="Clear").is_visible()


def test_other_pages_load_none_of_it(html):
    pages = {path for path in html.rglob("*.html") if "_static" not in path.parts}
    loading = {path for path in pages if "ort-files.js" in path.read_text(encoding="utf-8")}
    assert loading == {html / PAGE} and len(pages) > 1


def test_the_files_are_the_stored_ones(html):
    """The script beside the book holds the networks of the study, byte for byte."""
    text = (html / "try-it" / "data.js").read_text(encoding="utf-8")
    held = json.loads(text.removeprefix("globalThis.tryItData = ").rstrip().removesuffix(";"))
    assert [network["name"] for network in held["networks"]] == list(NETWORKS)
    for network in held["networks"]:
        assert base64.b64decode(network["onnx"]) == studies.network(network["name"]).read_bytes()
