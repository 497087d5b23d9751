"""What the public sees besides the API: the owner's files, name and texts, previews, no scripts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from app.settings import SettingsError
from tests.integration.app.instances import slot
from tests.running import Cluster

Make = Callable[..., FlaskClient]


@pytest.fixture
def url(postgres: Cluster, database: str) -> str:
    return postgres.url(database)


def test_without_files_of_the_owner_there_are_an_icon_and_rules_for_robots(client: FlaskClient) -> None:
    robots, icon = client.get("/robots.txt"), client.get("/favicon.ico")

    assert robots.text == "User-agent: *\nDisallow: /api/\n"
    assert (icon.status_code, icon.content_type) == (200, "image/x-icon")
    for path in ("/terms", "/privacy", "/ads.txt", "/.well-known/security.txt", "/logo.png", "/images/a.png"):
        assert client.get(path).status_code == 404
        assert client.get(path).json == {"error": "not_found"}


def test_the_owners_files_are_served_safely(url: str, make_client: Make, tmp_path: Path) -> None:
    (tmp_path / ".well-known").mkdir()
    (tmp_path / "terms.html").write_text("<h1>Terms</h1>")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / ".well-known/security.txt").write_text("Contact: mailto:a@b.example")
    client = make_client(url, P12_PUBLIC_FILES=str(tmp_path))

    terms, drawing = client.get("/terms"), client.get("/drawing.svg")

    assert (terms.text, terms.content_type) == ("<h1>Terms</h1>", "text/html; charset=utf-8")
    assert terms.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in drawing.headers["Content-Security-Policy"]
    assert client.get("/.well-known/security.txt").text.startswith("Contact:")
    assert client.get("/terms", headers={"If-None-Match": terms.headers["ETag"]}).status_code == 304
    page = client.get("/?lang=en").text
    assert '<a href="/terms">Terms</a>' in page
    assert "/privacy" not in page
    (tmp_path / "robots.txt").write_text("mine")
    assert client.get("/robots.txt").text == "mine"


def test_paths_that_nobody_has_are_as_before(client: FlaskClient) -> None:
    assert client.post("/api/nothing").status_code == 404
    assert client.get("/api/notes/1/view").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_the_owner_adds_to_the_content_policy_and_takes_away(url: str, make_client: Make) -> None:
    given = "img-src https://a.example; font-src 'self'; trusted-types; require-trusted-types-for"
    policy = make_client(url, P12_CSP_ADDITIONS=given).get("/").headers["Content-Security-Policy"]

    assert "img-src 'self' https://a.example;" in policy
    assert policy.endswith("frame-ancestors 'none'; font-src 'self'")


@pytest.mark.parametrize("given", ["img-src a\nb: c", "IMG http://x", "img-src a,b", "x"])
def test_a_content_policy_that_is_none_is_refused(url: str, make_client: Make, given: str) -> None:
    if given.startswith("img-src a\n"):
        assert (
            "\n" not in make_client(url, P12_CSP_ADDITIONS=given).get("/").headers["Content-Security-Policy"]
        )
        return
    with pytest.raises(SettingsError, match="P12_CSP_ADDITIONS"):
        make_client(url, P12_CSP_ADDITIONS=given)


def test_the_page_has_the_owners_name_and_texts(url: str, make_client: Make) -> None:
    said = '{"en": {"tagline": "Notes of <our> school."}}'
    page = make_client(url, P12_SITE_NAME="Notas", P12_SITE_TEXTS=said).get("/?lang=en").text

    assert "<title>Notas – short notes that expire</title>" in page
    assert "Notes of &lt;our&gt; school." in page
    assert "Paste12" not in page


@pytest.mark.parametrize(
    "said", ["x", "[]", '{"en": {"nothing": "x"}}', '{"de": {"title": "x"}}', '{"en": 1}']
)
def test_texts_that_the_page_has_not_are_refused(url: str, make_client: Make, said: str) -> None:
    with pytest.raises(SettingsError, match="P12_SITE_TEXTS"):
        make_client(url, P12_SITE_TEXTS=said)


def test_a_note_has_a_preview_by_the_services_own_name(url: str, make_client: Make) -> None:
    client = make_client(url, PUBLIC_BASE_URL="https://paste12.example/x")
    note = client.post("/api/notes", json={"text": 'First "line"\n' + "long " * 100}).json
    assert note

    for path in (f"/?id={note['id']}", f"/?note={note['id']}"):
        page = client.get(path).text
        properties = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', page))
        assert properties["title"] == "First &#34;line&#34;"
        assert properties["description"].startswith("First &#34;line&#34; long")
        assert len(properties["description"]) < 230
        assert properties["url"] == f"https://paste12.example/?id={note['id']}"
    gone = client.get("/?id=4711").text
    assert '<meta name="robots" content="noindex">' in gone
    assert client.get("/?id=99999999999999999999").status_code == 200


def test_the_page_can_be_read_without_javascript_to_the_last_note(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    postgres.run("INSERT INTO notes (text) SELECT 'note <' || n FROM generate_series(1, 45) AS n", database)

    path, read = "/", []
    while path:
        page = client.get(path).text
        found = re.search(r"<noscript>(.*?)</noscript>", page, re.DOTALL)
        assert found
        read += re.findall(r"note &lt;(\d+)", found[1])
        further = re.search(r'href="([^"]+)" rel="next"', found[1])
        path = further[1] if further else ""

    assert read == [str(number) for number in range(45, 0, -1)]
    assert 'id="n-45"' in client.get("/").text


def test_the_page_is_there_without_a_database(make_client: Make) -> None:
    client = make_client("postgresql://nobody@127.0.0.1:1/none", P12_DB_POOL_TIMEOUT="0.5")

    assert [client.get(path).status_code for path in ("/", "/?id=1", "/?before_id=9")] == [200, 200, 200]


@pytest.mark.parametrize(("hops", "secure"), [("1", True), ("0", False)])
def test_behind_the_balancer_its_word_on_tls_counts(
    url: str, tmp_path: Path, hops: str, secure: bool
) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"}
    with slot(url, tmp_path, {"P12_TRUSTED_HOPS": hops}, instances=1) as made:
        answer = requests.get(f"{made.urls[0]}/?lang=en", headers=forwarded, timeout=10)

    assert ("Secure" in answer.headers["Set-Cookie"], "https://127" in answer.text) == (secure, secure)


@pytest.mark.parametrize("hours", [1, 5, 100, 168])
def test_a_note_lives_for_any_whole_hours(client: FlaskClient, hours: int) -> None:
    note = client.post("/api/notes", data={"text": "x", "ttl_hours": str(hours)}).json

    assert note
    assert 'type="number" min="1" max="168"' in client.get("/").text
    assert (note["expires_at"] > note["timestamp"]) is True
