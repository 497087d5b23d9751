"""What a visitor does on the page, done by a real browser against a real instance."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.app.instances import Slot, slot
from tests.integration.app.web.browser import CONTROL, Tab, find_browser, open_browser
from tests.running import Cluster

MARKUP = "<b>loud</b> <img src=x onerror=\"document.title='owned'\">\n<script>document.title='owned'</script>"
OLDER_NOTES = 45
PHONE = (390, 844)
FIRST = "document.querySelector('#list li')"


@pytest.fixture
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip("no browser here to open the page with: apt-get install --no-install-recommends chromium")
    return found


@pytest.fixture
def running(postgres: Cluster, database: str, tmp_path: Path) -> Iterator[Slot]:
    with slot(postgres.url(database), tmp_path, {}, instances=1) as made:
        yield made


def test_a_visitor_writes_reads_likes_reports_and_is_told_kindly_when_it_cannot_be(
    browser: str, running: Slot, postgres: Cluster, database: str, tmp_path: Path
) -> None:
    async def journey() -> None:
        async with open_browser(browser, tmp_path / "profile", *PHONE) as tab:
            await tab.open(f"{running.urls[0]}/?lang=en")
            await tab.until("document.getElementById('state').innerText.includes('No notes yet')")
            await _writes_by_keyboard(tab)
            await _sees_text_and_not_markup(tab)
            await tab.until(f"{FIRST}.querySelector('.views').innerText === '1'")
            await _likes_and_reports(tab)
            assert await tab.nameless_controls() == []

            postgres.run(
                f"INSERT INTO notes (text) SELECT 'older' FROM generate_series(1, {OLDER_NOTES})", database
            )
            await _reads_to_the_end(tab, running.urls[0])
            await _opens_one(tab, running.urls[0])

            running.set_flags(P12_READ_ONLY="1")
            await _keeps_the_text_while_read_only(tab, running.urls[0])
            assert tab.complaints == []

    asyncio.run(journey())

    assert postgres.run("SELECT note_id, reason FROM report_log", database) == [(1, "too loud")]
    assert postgres.run(
        "SELECT text, expires_at - timestamp = interval '1 hour', views FROM notes WHERE id = 1", database
    ) == [(MARKUP, True, 1)]


async def _writes_by_keyboard(tab: Tab) -> None:
    for expected in ("skip", "", "", "text"):
        await tab.press("Tab")
        focused = "[document.activeElement.className, document.activeElement.id]"
        assert expected in await tab.run(focused)
    await tab.type(MARKUP)
    await tab.run("document.getElementById('hours').value = '1'")
    await tab.press("Enter", CONTROL)
    await tab.until("document.getElementById('status').innerText === 'Note published.'")
    assert await tab.run("document.getElementById('text').value") == ""


async def _sees_text_and_not_markup(tab: Tab) -> None:
    assert await tab.run(f"{FIRST}.querySelector('.text').textContent") == MARKUP
    assert await tab.run(f"{FIRST}.querySelector('.text').children.length") == 0
    assert "owned" not in await tab.run("document.title")
    # Even a script of our own could not: the policy takes markup away from all of them.
    attempt = (
        "(() => { try { document.body.innerHTML = '<b></b>'; return 'took it' } catch { return '' } })()"
    )
    assert await tab.run(attempt) == ""
    tab.complaints.clear()


async def _likes_and_reports(tab: Tab) -> None:
    await tab.run(f"{FIRST}.querySelector('.like').click()")
    await tab.until(f"{FIRST}.querySelector('.like[aria-pressed=true] .likes')?.innerText === '1'")
    await tab.run(f"{FIRST}.querySelector('.report').click()")
    await tab.until("document.activeElement.id === 'reason'")
    await tab.type("too loud")
    await tab.press("Enter")
    await tab.until("document.getElementById('status').innerText.startsWith('Thank you')")


async def _reads_to_the_end(tab: Tab, url: str) -> None:
    await tab.open(url)
    everything = f"document.querySelectorAll('#list li').length === {OLDER_NOTES + 1}"
    await tab.until(f"scrollTo(0, document.body.scrollHeight), {everything}")
    assert await tab.run("document.documentElement.lang") == "en"
    assert await tab.run("document.documentElement.scrollWidth <= innerWidth")


async def _opens_one(tab: Tab, url: str) -> None:
    await tab.open(f"{url}/?id=1")
    await tab.until(f"{FIRST}?.querySelector('.text').textContent.startsWith('<b>loud')")
    assert await tab.run("document.querySelectorAll('#list li').length") == 1
    for old in ("/?note=1", "/#n-1"):
        await tab.open(f"{url}{old}")
        await tab.until(f"{FIRST}?.querySelector('.text').textContent.startsWith('<b>loud')")
        assert await tab.run("document.querySelectorAll('#list li').length") == 1
    assert await tab.run("location.pathname + location.search") == "/?id=1"
    assert await tab.run(f"{FIRST}.querySelector('.share').hidden") is False
    await tab.open(f"{url}/?id=4711")
    await tab.until("document.getElementById('state').innerText === 'This note is gone.'")


async def _keeps_the_text_while_read_only(tab: Tab, url: str) -> None:
    await tab.open(url)
    await tab.run("document.getElementById('text').focus()")
    await tab.type("later, then")
    await tab.press("Enter", CONTROL)
    await tab.until("document.getElementById('status').innerText.startsWith('Only reading')")
    assert await tab.run("document.getElementById('text').value") == "later, then"
