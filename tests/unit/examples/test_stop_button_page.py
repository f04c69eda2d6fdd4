"""The page with the Stop button, in headless Chromium."""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from griptape_ollama.testing import Reply

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--no-proxy-server",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT = 30.0
ENDLESS = Reply(text="and so on " * 10_000, line_delay=0.01)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def chromium():
    expect.set_options(timeout=WAIT * 1000)
    with sync_playwright() as playwright:
        # Without the driver's own handlers, Ctrl-C is the test run's.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, handle_sigint=False)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, url):
    errors = []
    with chromium.new_context(base_url=url, viewport={"width": 800, "height": 700}) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 # it is given attributes
        page.goto("/")
        yield page
    assert errors == []


def _ask(page, question):
    page.get_by_label("Message").fill(question)
    page.get_by_role("button", name="Send").click()


def _last_answer(page):
    return page.locator(".answer").last


def _wait_for_text(page):
    """Wait until the answer is streaming."""
    expect(_last_answer(page)).to_contain_text("and so on and")
    expect(page.get_by_role("status")).to_have_text("Answering…")


def _contents(request):
    return [message["content"] for message in request.messages if message["role"] != "system"]


def _assert_memory_is_empty_and_chat_works(simulator, page):
    """Send a question after an answer that was stopped."""
    simulator.reply("Short.")
    _ask(page, "A short one, then.")
    expect(_last_answer(page)).to_contain_text("Short.")
    expect(page.get_by_role("status")).to_have_text("Answered.")
    assert _contents(simulator.last_chat) == ["A short one, then."]
    page.reload()
    expect(page.locator(".message")).to_have_text(["YouA short one, then.", "AnswerShort."])


def test_the_stop_button_ends_the_generation_and_leaves_no_trace_in_the_memory(simulator, page):
    simulator.reply(ENDLESS)
    _ask(page, "A long story, please.")
    _wait_for_text(page)
    page.get_by_role("button", name="Stop").click()
    simulator.wait_for_disconnect(WAIT)
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    expect(_last_answer(page)).to_contain_text("Not remembered")
    expect(page.get_by_label("Message")).to_be_focused()
    _assert_memory_is_empty_and_chat_works(simulator, page)


def test_the_stop_button_works_when_the_stop_request_is_lost(simulator, page):
    page.route("**/stop", lambda route: route.abort())
    simulator.reply(ENDLESS)
    _ask(page, "A long story, please.")
    _wait_for_text(page)
    page.get_by_role("button", name="Stop").click()
    simulator.wait_for_disconnect(WAIT)
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    _assert_memory_is_empty_and_chat_works(simulator, page)


def test_an_answer_is_stopped_from_another_tab(simulator, page):
    simulator.reply(ENDLESS)
    _ask(page, "A long story, please.")
    _wait_for_text(page)
    assert page.request.post("/stop").status == 204
    simulator.wait_for_disconnect(WAIT)
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    _assert_memory_is_empty_and_chat_works(simulator, page)


def test_closing_the_tab_ends_the_generation(simulator, page):
    simulator.reply(ENDLESS)
    _ask(page, "A long story, please.")
    _wait_for_text(page)
    page.close()
    simulator.wait_for_disconnect(WAIT)


def test_leaving_the_page_ends_the_generation(simulator, page):
    simulator.reply(ENDLESS)
    _ask(page, "A long story, please.")
    _wait_for_text(page)
    page.goto("about:blank")
    simulator.wait_for_disconnect(WAIT)


def test_the_page_works_with_keyboard_and_screen_reader(simulator, page):
    simulator.reply(ENDLESS)
    log, status = page.get_by_role("log", name="Conversation"), page.get_by_role("status")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(page.get_by_label("Message")).to_be_focused()
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    page.keyboard.press("Enter")
    _wait_for_text(page)
    expect(log).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(status).to_have_text("Stopped.")
    expect(log).to_have_attribute("aria-busy", "false")
    simulator.wait_for_disconnect(WAIT)
    assert _contents(simulator.last_chat) == ["One line\nand another"]

    simulator.reply(ENDLESS)
    page.keyboard.type("Again")
    page.keyboard.press("Enter")
    _wait_for_text(page)
    page.keyboard.press("Escape")
    simulator.wait_for_disconnect(WAIT, n=2)
    expect(status).to_have_text("Stopped.")


def test_texts_of_model_and_user_are_no_markup(simulator, page):
    simulator.reply("<img src=x onerror=alert(1)> &amp;")
    _ask(page, "<b>bold</b>")
    expect(page.locator(".message")).to_have_text(["You<b>bold</b>", "Answer<img src=x onerror=alert(1)> &amp;"])


def test_a_failure_is_shown_and_the_next_question_works(simulator, page):
    simulator.fault("status", status=404, error="model 'simulator' not found")
    _ask(page, "Hi")
    expect(page.get_by_role("status")).to_contain_text("ollama pull simulator")
    _assert_memory_is_empty_and_chat_works(simulator, page)
