"""The page and the description of the API are what the service is."""

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import app
from app.web.openapi import PATHS

PACKAGE = Path(app.__file__).parent


@pytest.mark.parametrize(
    ("asked", "language"), [("es-CO,en;q=0.5", "es"), ("en-GB", "en"), ("de", "es"), ("", "es")]
)
def test_the_page_speaks_the_visitors_language(client: FlaskClient, asked: str, language: str) -> None:
    answer = client.get("/", headers={"Accept-Language": asked})

    assert f'<html lang="{language}">' in answer.text
    assert "Accept-Language" in answer.headers["Vary"]
    assert '<html lang="en">' in client.get("/?lang=en&id=1", headers={"Accept-Language": asked}).text


def test_the_page_needs_nothing_that_the_policy_forbids(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]

    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<style" not in answer.text
    assert not re.search(r"\s(on\w+|style)=", answer.text)
    assert all(tag.count("src=") == 1 for tag in re.findall(r"<script[^>]*>", answer.text))


def test_assets_keep_their_names_and_are_revalidated(client: FlaskClient) -> None:
    assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', client.get("/").text)

    assert sorted(set(assets)) == ["/static/icon.svg", "/static/page.css", "/static/page.js"]
    for asset in assets:
        with client.get(asset) as found:
            assert (found.status_code, found.headers["Cache-Control"]) == (200, "no-cache")
            assert found.data
        with client.get(asset, headers={"If-None-Match": found.headers["ETag"]}) as again:
            assert again.status_code == 304


def test_every_control_has_a_name_and_the_script_finds_what_it_looks_for(client: FlaskClient) -> None:
    page = client.get("/").text
    script = (PACKAGE / "web" / "static" / "page.js").read_text()

    controls = re.findall(r'<(?:textarea|select|input)[^>]* id="(\w+)"', page)
    ids, parts = (re.findall(pattern, script) for pattern in (r'find\("(\w+)"\)', r'part\("\.(\w+)"\)'))
    words = {
        re.sub("([A-Z])", lambda m: "-" + m[1].lower(), word) for word in re.findall(r"words\.(\w+)", script)
    }

    assert all((controls, ids, parts, words))
    assert [control for control in controls if f'<label for="{control}">' not in page] == []
    assert [wanted for wanted in ids if f'id="{wanted}"' not in page] == []
    assert [wanted for wanted in parts if f'class="{wanted}"' not in page] == []
    assert [word for word in words if f"data-{word}" not in page] == []


def test_the_description_lists_exactly_the_routes_that_are_served(client: FlaskClient) -> None:
    served = {
        (re.sub(r"<\w+:(?:note_)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        if not rule.rule.startswith(("/internal/", "/static/"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, operations in PATHS.items() for method in operations}

    assert described == served
