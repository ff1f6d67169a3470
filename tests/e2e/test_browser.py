"""The pages in a real browser: a rider pays and watches, an operator and a franchisee look at everything. No script errors."""

import shutil
import subprocess
import sys

import httpx
import pytest

from tests.e2e.stack import ROOT, die_with_parent

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM, reason="no Chromium on this machine: the browser tests were skipped (Debian: apt-get install chromium)"
    ),
]
PASSWORD = "correct horse battery"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, running):
    """Open pages and hold that none has a script error, a refused resource or an answer of 500."""
    contexts = []

    def open_page(size=DESK):
        context = chromium.new_context(viewport=size, base_url=running.url)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(f"{page.url}: {error}"))
        page.on("console", lambda message: page.troubles.append(f"{page.url}: {message.text}") if message.type == "error" else None)
        page.on("response", lambda answer: page.troubles.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        contexts.append((context, page))
        return page

    yield open_page
    for context, page in contexts:
        assert page.troubles == []
        context.close()


@pytest.fixture(scope="module")
def charger(running):
    """A simulated 240 kW charger of Kaveri's, living by itself, and the operator."""
    running.env |= {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    running.manage("createsuperuser", "--noinput", "--username", "root", "--email", "root@example.in")
    made = running.add_charger("E2E-BROWSER", "--franchisee", "Kaveri", "--station", "Kaveri Hub", "--max-kw", "240")
    command = [
        sys.executable,
        "manage.py",
        "simulate",
        "--chargers",
        made["cp_id"],
        "--key",
        made["key"],
        "--url",
        running.ws,
        "--sample-every",
        "1",
    ]
    with open(running.folder / "simulate.log", "ab") as out:
        simulator = subprocess.Popen(command, cwd=ROOT, env=running.env, stdout=out, stderr=out, preexec_fn=die_with_parent)
    running.wait(
        lambda: running.rows("select 1 from csms_connector where charge_point_id = %s and status = 'Available'", made["cp_id"]),
        "the charger",
        40,
    )
    yield made
    simulator.terminate()
    simulator.wait(20)


def sign_in(page, username):
    page.goto("/sign-in/")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/sign-in/" not in url)


def test_a_rider_pays_the_qr_and_watches_the_charge_to_its_end(visit, running, charger):
    connector = charger["connectors"][0]
    page = visit(PHONE)
    page.goto(f"/c/{connector['code']}/")
    assert charger["cp_id"] not in page.content()
    pay = visit(PHONE)
    pay.goto(f"{running.sandbox}/pay/{connector['qr_id']}")
    pay.fill("input[name=amount]", "10")
    pay.fill("input[name=vpa]", "asha@okaxis")
    pay.click("button[type=submit]")
    pay.wait_for_load_state()
    # The page of the charger follows by itself: nobody reloads it.
    page.get_by_text("Charging", exact=False).first.wait_for()
    page.get_by_text("Finished", exact=False).first.wait_for(timeout=90_000)
    assert "₹10.00" in page.content()
    assert "asha@okaxis" not in page.content()


def test_the_operator_opens_every_page_of_the_console(visit, running, charger):
    page = visit()
    sign_in(page, "root")
    page.goto("/admin/")
    lists = page.eval_on_selector_all("a[href^='/admin/']", "links => [...new Set(links.map(link => link.getAttribute('href')))]")
    lists = [href for href in lists if href.count("/") == 4 and "logout" not in href and "password" not in href]
    assert len(lists) >= 25, lists
    for href in lists:
        page.goto(href)
        assert page.locator("h1, h2").count() > 0
    pk = running.row("select id from csms_chargepoint where cp_id = 'E2E-BROWSER'")["id"]
    session = running.row("select max(id) as id from csms_chargingsession")["id"]
    own = [f"/console/chargers/{pk}/{name}" for name in ("", "firmware/", "files/", "configuration/", "habits/")]
    for href in ("/console/firmware/", "/console/onboarding/", "/console/chargers/", *own, f"/console/sessions/{session}/"):
        page.goto(href)
        page.wait_for_timeout(500)
    assert page.get_by_text("kWh").count() > 0


def test_the_operator_asks_a_charger_and_follows_it_to_its_effect(visit, running, charger):
    pk = running.row("select id from csms_chargepoint where cp_id = 'E2E-BROWSER'")["id"]
    for size in (DESK, PHONE):
        page = visit(size)
        sign_in(page, "root")
        page.goto(f"/console/chargers/{pk}/")
        page.locator("section[aria-label='Ask it']").get_by_role("link", name="Ask for a message").click()
        page.select_option("select[name=requestedMessage]", "StatusNotification")
        page.click("#send")
        page.get_by_text("StatusNotification came.").wait_for()  # the page follows by itself
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.locator(".vt-frames summary").first.click()
        page.locator(".vt-frames pre.loaded").first.wait_for()
        page.goto("/console/chargers/?q=E2E-BROWSER")
        page.locator("input[name=pk]").first.check()
        page.click("#ask-chosen")
        page.get_by_role("button", name="Clear its authorization cache").click()
        page.click("#send")
        page.get_by_text("effective").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.context.clear_cookies()


def test_a_charger_is_asked_without_javascript(chromium, running, charger):
    pk = running.row("select id from csms_chargepoint where cp_id = 'E2E-BROWSER'")["id"]
    context = chromium.new_context(viewport=PHONE, base_url=running.url, java_script_enabled=False)
    context.set_default_timeout(20_000)
    page = context.new_page()
    sign_in(page, "root")
    page.goto(f"/console/chargers/{pk}/ask/ClearCache/")
    page.click("#send")
    page.get_by_text("It has happened").first.wait_for()  # it is loaded again every five seconds
    context.close()


def test_the_operator_reads_the_messages_and_replays_a_session(visit, running, charger):
    session = running.row("select max(id) as id from csms_chargingsession")["id"]
    for size in (DESK, PHONE):
        page = visit(size)
        sign_in(page, "root")
        page.goto("/console/messages/?charger=E2E-BROWSER")
        page.locator(".vt-log details summary").first.click()
        page.locator(".vt-log .vt-exchange pre").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.goto(f"/console/sessions/{session}/replay/")
        page.get_by_text("1 of", exact=False).first.wait_for()
        for key in ("ArrowRight", "j", "ArrowRight", "k"):
            page.keyboard.press(key)
        page.get_by_text("3 of", exact=False).first.wait_for()
        assert page.locator("li[aria-current=step]").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    with page.expect_download() as saved:
        page.goto("/console/messages/?charger=E2E-BROWSER")
        page.get_by_role("link", name="CSV").click()
    assert saved.value.path().read_text().startswith("id,at,charger,direction,kind,action,correlation id,duration ms,note,epoch,frame")
    page.context.clear_cookies()


def test_the_franchisee_opens_every_page_of_the_portal(visit, running, charger):
    for size in (DESK, PHONE):
        page = visit(size)
        sign_in(page, "kaveri")
        seen, waiting = set(), ["/portal/"]
        while waiting:
            href = waiting.pop()
            seen.add(href)
            page.goto(href)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{href} is wider than the screen"
            links = page.eval_on_selector_all("a[href^='/portal/']", "links => links.map(link => link.getAttribute('href').split('#')[0])")
            waiting += [link for link in set(links) if link not in seen and link not in waiting and "?" not in link and ".csv" not in link]
            assert len(seen) < 60
        assert len(seen) >= 5, seen
        page.context.clear_cookies()


def test_the_front_door_and_the_public_pages_fit_a_phone(visit, running, charger):
    code = charger["connectors"][0]["code"]
    page = visit(PHONE)
    for href in ("/", "/sign-in/", "/my-charges", f"/c/{code}/", f"/c/{code}/sticker/"):
        page.goto(href)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{href} is wider than the screen"
    assert httpx.get(f"{running.url}/c/{code}/qr.svg").headers["content-type"].startswith("image/svg")
