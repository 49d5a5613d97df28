"""What a host may say about the pages, what it may not, and how it shows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from tests.admin.conftest import PRINCIPALS
from tests.admin.pages.site import BASE, text_of
from workflow_runs.admin import development_access
from workflow_runs.admin.pages import PageSettings
from workflow_runs.admin.pages.rendering import StaticFiles, tag_parts
from workflow_runs.errors import ConfigurationError


@pytest.fixture
def site(busy_site):
    return busy_site


WRONG = {
    "a short secret": {"secret": b"x" * 31},
    "a secret that is text": {"secret": "x" * 32},
    "no zone": {"time_zone": "Mars/Olympus"},
    "a path for a zone": {"time_zone": "../etc/passwd"},
    "a folder for a zone": {"time_zone": "Europe"},
    "an empty zone": {"time_zone": ""},
    "a prefix that ends": {"external_prefix": "/desk/"},
    "a prefix that does not begin": {"external_prefix": "desk"},
    "a prefix of another host": {"external_prefix": "//evil.example"},
    "a whole address as prefix": {"external_prefix": "https://x.example/desk"},
    "a tag link without its place": {"tag_links": {"order": "https://x.example/"}},
    "a script as tag link": {"tag_links": {"order": "javascript:alert({value})"}},
    "a relative tag link": {"tag_links": {"order": "/orders/{value}"}},
    "a key link with a space": {"key_link": "https://x.example/{value} y"},
    "a key link without its place": {"key_link": "https://x.example/"},
    "a colour by name": {"colours": {"ok": ("red", "#000000")}},
    "one colour": {"colours": {"ok": ("#000000",)}},
    "a short colour": {"colours": {"ok": ("#000", "#fff")}},
    "a token that ends the rule": {"colours": {"ok;}": ("#000000", "#ffffff")}},
    "a colour with more": {"colours": {"ok": ("#000000;", "#ffffff")}},
    "one text as ancestors": {"frame_ancestors": "https://x.example"},
    "no ancestors": {"frame_ancestors": ()},
    "a directive as ancestor": {"frame_ancestors": ("https://x.example; script-src *",)},
    "anybody as ancestor": {"frame_ancestors": ("*",)},
    "another way to live": {"live": "websocket"},
    "another class": {"environment_class": "purple"},
    "less than no stream": {"streams_max": -1},
    "stuck at once": {"stuck_after_s": 0},
    "no time for guards": {"guard_timeout_s": 0},
    "no number of seconds": {"guard_timeout_s": float("nan")},
    "no folder": {"templates": "/nowhere/at/all"},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_value_that_means_nothing_is_refused(what):
    with pytest.raises(ConfigurationError):
        PageSettings(**WRONG[what])


def test_a_refusal_does_not_repeat_the_secret():
    with pytest.raises(ConfigurationError) as refused:
        PageSettings(secret=b"only a few bytes")
    assert "few" not in str(refused.value)
    assert "secret" not in repr(PageSettings(secret=b"s" * 32))


# --- how it shows ----------------------------------------------------------------------------------------------------


def test_title_environment_and_zone_stand_at_the_top(site):
    page = site.client(
        with_={
            "title": "Acme <desk>",
            "environment": "PROD",
            "environment_class": "wait",
            "time_zone": "Europe/Bucharest",
        }
    ).get(f"/runs/{site.ids['failed']}")
    assert "Acme &lt;desk&gt;</title>" in page.text
    assert '<span class="env wait">PROD</span>' in page.text
    assert re.search(r'title="Times are in Europe/Bucharest[^>]*>(EET|EEST)<', page.text)
    assert re.search(r'datetime="[^"]*Z" title="[^"]*(EET|EEST), [^"]*Z"', page.text)


def test_somebody_is_named_and_a_service_without_an_id_is_not(site):
    assert "Signed in as ada" in text_of(site.get("/"))

    async def service(_request):
        return replace(PRINCIPALS["all"], id=None)

    page = site.client(authorize=service).get("/runs")
    assert "Signed in" not in page.text
    assert ">Mine " not in page.text


def test_a_desk_for_development_says_so(site):
    client = TestClient(site.app(authorize=development_access()), base_url="http://localhost", client=("127.0.0.1", 5))
    assert "Development access" in client.get(f"{BASE}/").text
    assert "Development access" not in site.get("/").text


def test_colours_are_a_style_sheet_of_their_own(site):
    client = site.client(with_={"colours": {"ok": ("#0d7346", "#4fc78d"), "bad": ("#bd2130", "#ff8a87")}})
    (href,) = re.findall(r'href="([^"]+/colours\.css)"', client.get("/").text)
    sheet = client.http.get(href)
    assert sheet.headers["content-type"] == "text/css; charset=utf-8"
    assert sheet.text == "@layer host{:root{--bad:light-dark(#bd2130,#ff8a87);--ok:light-dark(#0d7346,#4fc78d);}}"
    assert "colours.css" not in site.get("/").text
    assert site.get("/static/x/colours.css").status_code == 404


def test_other_colours_are_another_version_of_the_files():
    versions = {
        StaticFiles(PageSettings(colours={"ok": (light, "#000000")})).version for light in ("#111111", "#222222")
    }
    assert len({*versions, StaticFiles(PageSettings()).version}) == 3


def test_tags_and_keys_lead_out_with_their_value_encoded(site):
    run = site.run(correlation_id="a/b?c=d&e#f", tags=("order:1/2 3", "urgent", "other:x", "empty:"))
    client = site.client(
        with_={"tag_links": {"order": "https://shop.example/o/{value}"}, "key_link": "https://crm.example/?id={value}"}
    )
    page = client.get(f"/runs/{run}").text
    assert 'href="https://shop.example/o/1%2F2%203" rel="noopener noreferrer"' in page
    assert 'href="https://crm.example/?id=a%2Fb%3Fc%3Dd%26e%23f" rel="noopener noreferrer"' in page
    assert f'href="{BASE}/runs?q=tag%3Aother%3Ax"' in page
    assert f'href="{BASE}/runs?q=tag%3Aurgent"' in page


@pytest.mark.parametrize(
    "value", ["javascript:alert(1)", "https://evil.example", "x\u202ey", "@evil.example", '"><script>']
)
def test_a_value_cannot_lead_elsewhere(site, value):
    run = site.run(tags=(f"order:{value}", f"url:{value}"))
    client = site.client(
        with_={"tag_links": {"order": "https://shop.example/{value}", "url": "https://shop.example/?to={value}"}}
    )
    links = re.findall(r'href="((?:https?|javascript):[^"]*)"', client.get(f"/runs/{run}").text)
    assert len(links) == 2
    assert all(link.startswith("https://shop.example/") for link in links)


@pytest.mark.parametrize(
    ("tag", "parts"), [("a:b:c", ("a", "b:c")), ("a", ("", "a")), (":a", ("", ":a")), ("a:", ("", "a:"))]
)
def test_a_tag_has_a_name_up_to_its_first_colon(tag, parts):
    assert tag_parts(tag) == parts


def test_a_template_of_the_host_extends_ours(site, tmp_path):
    (tmp_path / "base.html").write_text(
        '{% extends "ours/base.html" %}{% block foot %}<p>Call {{ settings.title }} at 112</p>{% endblock %}'
    )
    (tmp_path / "error.html").write_text(
        "{% extends layout %}{% block main %}<h1>Lost</h1>{{ request_id }}{% endblock %}"
    )
    client = site.client(with_={"templates": tmp_path, "title": "Acme"})
    assert "<p>Call Acme at 112</p>" in client.get("/runs").text
    assert "<h1>Lost</h1>" in client.get("/none").text
    assert "Call Acme" in client.get("/none").text


def test_a_reader_keeps_the_theme_that_was_chosen(site):
    def theme(cookie):
        return re.search(r"<html[^>]*>", site.client().get("/", headers={"cookie": cookie}).text)[0]

    assert theme("wr_theme=dark; a=b") == '<html lang="en" data-theme="dark">'
    for cookie in ("wr_theme=purple", 'wr_theme="><script>', "a", "\x01=;;", "wr_theme"):
        assert theme(cookie) == '<html lang="en">'


@pytest.mark.parametrize("live", ["stream", "poll", "off"])
def test_how_pages_are_kept_up_to_date_is_said_to_the_script(site, live):
    page = site.client(with_={"live": live}).get(f"/runs/{site.ids['running']}").text
    assert f'data-live="{live}"' in page
    assert ('id="live"' in page) == (live != "off")
