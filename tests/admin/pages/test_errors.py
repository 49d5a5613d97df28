"""What goes wrong is a page, in the contract's order, with the request's id; and headers that no answer is without."""

from __future__ import annotations

import re
import sqlite3
from urllib.parse import quote

import pytest

from tests.admin.pages.site import BASE, make_site, opened, text_of
from workflow_runs.admin.pages.places import PLACES

SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
ODD_IDS = {
    "unknown": "wfrn_01m81srpafe07vg00hcm7rdwd5",
    "a slash": "a%2Fb",
    "slashes": "%2F%2Fevil.example%2F..%2F..",
    "10 kB": "x" * 10_000,
    "NUL": "a%00b",
    "control characters": "%01%0D%0Ax-evil:%201%1B",
    "no UTF-8": "%ff%fe",
    "a lone surrogate": "%ed%a0%80",
    "bidi": quote("\u202egpj"),
    "a space": "%20",
    "a percent sign": "%25",
    "markup": quote("<script>alert(1)</script>"),
    "only the ending": ".json",
}


def is_page(answer, status):
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-request-id"] in answer.text
    assert "<h1" in answer.text
    return True


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/none", "/runs/", "/runs//resume", "/runs/a/b", "/runs/a/b/c/d", "/workflows/", "//", "/x/static/y"]
)
def test_an_unknown_path_is_a_page_also_for_nobody(site, path):
    assert is_page(site.get(path, None), 404)


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_id_of_any_shape_is_a_question_whose_answer_is_no(site, odd):
    text = ODD_IDS[odd]
    for tail in ("", "/resume", "/rerun", "/cancel", "/compare", "/payload/input", "/payload/output?step=1"):
        answer = site.get(f"/runs/{text}{tail}")
        assert is_page(answer, 404), tail
        assert "<script>alert" not in answer.text
        assert "x-evil" not in answer.headers
    for tail in ("", "/run"):
        assert is_page(site.get(f"/workflows/{text}{tail}"), 404), tail


@pytest.mark.parametrize("odd", ODD_IDS)
def test_forms_for_an_id_of_any_shape_do_nothing(site, odd):
    for act in ("resume", "rerun", "cancel"):
        assert is_page(site.client().send(f"/runs/{ODD_IDS[odd]}/{act}", {"token": "x"}), 404)
    assert is_page(site.client().send(f"/workflows/{ODD_IDS[odd]}/run", {"token": "x", "input": "{}"}), 404)


@pytest.mark.parametrize("path", ["/runs/a%2Fb", "/runs/a%00b", "/workflows/a%00b", "/runs?q=workflow%3A%EF%BF%BD%01"])
def test_odd_ids_on_postgresql(postgres_url, path):
    with opened(make_site(postgres_url)) as site:
        assert site.get(path).status_code == (200 if "q=" in path else 404)


def test_a_run_has_only_the_parts_that_it_has(site):
    run = site.ids["failed"]
    for tail in ("payload/stack", "payload/input%2F..", "payload/output", "payload/output?step=99", "payload/result"):
        assert is_page(site.get(f"/runs/{run}/{tail}"), 404), tail
    for sequence in ("99", "-1", "x", "1" * 50, "%C2%B2", "1.0"):
        assert site.client().part(f"/runs/{run}/steps/{sequence}", "part").status_code == 404, sequence
        assert site.get(f"/runs/{run}?step={sequence}&first={sequence}&tab=x&scale=x").status_code == 200


@pytest.mark.parametrize(
    "query", ["q=%00", "q=%ff", "q=%ed%a0%80", "&".join("run=1" for _ in range(101)), "before=%00", "q=" + "x" * 4001]
)
def test_a_query_that_cannot_be_read_is_a_400(site, query):
    assert is_page(site.get(f"/runs?{query}"), 400)


@pytest.mark.parametrize("before", ["x", "wfrn_", "zzzz", "%27%3B--", "9" * 300, ""])
def test_a_place_in_the_list_that_is_none_is_a_list(site, before):
    assert site.get(f"/runs?q=&before={before}").status_code == 200


@pytest.mark.parametrize(
    "q",
    [
        "from:0001-01-01",
        "to:0001-01-01",
        "from:9999-12-31",
        "to:9999-12-31",
        "from:0001-01-01 to:0001-01-02",
        "since:999999999w",
        "from:0001-01-01T00:00+14:00",
        "to:0001-01-01 error:x",
        "took:>999999999w",
        "-took:1s..1ms",
        'input.a.0.b:"x',
        "from:2026-02-30",
        "from:9999-12-31T23:59:59.9999999-14:00",
        "parent:x",
        'group:"" workflow:"a b"',
        "status:failed -status:failed",
        "((((",
        "a\tb",
    ],
)
def test_a_query_of_any_kind_is_a_page(site, q):
    for zone in ("UTC", "Pacific/Kiritimati", "America/Los_Angeles") if "01-01" in q or "12-31" in q else ("UTC",):
        assert site.client(with_={"time_zone": zone}).get(f"/runs?q={quote(q)}").status_code == 200, zone


def test_comparing_takes_two(site):
    for query in ("", "?run=a", "?run=a&run=b&run=c"):
        assert is_page(site.get(f"/compare{query}"), 400)


# --- methods ---------------------------------------------------------------------------------------------------------


def path_of(place, site):
    filled = {
        "{id}": site.ids["failed"],
        "{name}": "safe",
        "{sequence}": "1",
        "{part}": "input",
        "{version}": "1",
        "{file}": "wr.css",
    }
    return "/" + "/".join(filled.get(part, part) for part in place.segments)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_place_says_which_methods_it_takes(site, place):
    path, client = path_of(place, site), site.client(None)
    for method in ("PUT", "DELETE", "PATCH", "TRACE", *(() if place.acts else ("POST",))):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, place.allow), method
    asked = client.request("OPTIONS", path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (204, place.allow, b"")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_head_is_get_without_the_body(site, place):
    path = path_of(place, site)
    head = site.client().request("HEAD", path)
    assert head.content == b""
    if place.name == "events":  # a stream has no end, and HEAD does not wait for one
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        return
    get = site.client().get(path)
    assert (head.status_code, head.headers.get("content-type")) == (get.status_code, get.headers.get("content-type"))
    assert site.client(None).request("HEAD", path).status_code in {200, 401, 404}


# --- who is there ----------------------------------------------------------------------------------------------------


def test_nobody_is_told_to_log_in(site):
    answer = site.get("/runs", None)
    assert is_page(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_nobody_is_sent_to_the_login_and_back(site):
    client = site.client(None, with_={"login_url": "https://login.example/?to={next}&x=1"})
    answer = client.get("/workflows/with%20space%2Fand%20slash/run?a=b&c=%2F")
    assert answer.status_code == 303
    here = f"{BASE}/workflows/with%20space%2Fand%20slash/run?a=b&c=%2F"
    assert answer.headers["location"] == f"https://login.example/?to={quote(here, safe='')}&x=1"
    assert client.get("/").headers["location"] == f"https://login.example/?to={quote(BASE + '/', safe='')}&x=1"


def test_the_way_back_from_the_login_is_the_address_that_the_browser_sees(site):
    client = site.client(None, with_={"login_url": "/in?{next}", "external_prefix": "/out/desk"})
    assert client.get("/runs").headers["location"] == f"/in?{quote('/out/desk/runs', safe='')}"


def test_what_a_login_could_not_lead_back_to_is_a_401(site):
    client = site.client(None, with_={"login_url": "/login?{next}"})
    assert client.send(f"/runs/{site.ids['failed']}/resume", {"token": "x"}).status_code == 401
    assert client.part("/runs").status_code == 401
    assert client.get("/events").status_code == 303  # an EventSource follows, fails there and stops


def test_an_authoriser_that_raises_lets_nobody_in_and_says_nothing(site, caplog):
    async def authorize(_request):
        raise ValueError("the host's secret")

    for path in ("/runs", "/events"):
        answer = site.client(authorize=authorize).get(path)
        assert is_page(answer, 500)
        assert "secret" not in answer.text
    assert "secret" in caplog.text


# --- headers ---------------------------------------------------------------------------------------------------------


def every_kind_of_answer(site):
    run = site.ids["failed"]
    client = site.client()
    yield from (
        client.get(path)
        for path in ("/", "/runs", f"/runs/{run}", "/none", "/compare", "/jump?q=x", f"/runs/{run}.json")
    )
    yield client.get(f"/runs/{run}/payload/input")
    yield from (
        site.get("/", None),
        site.get("/", "nothing"),
        client.part(f"/runs/{run}"),
        client.part("/none", "dialog"),
    )
    yield from (client.request(method, "/") for method in ("HEAD", "OPTIONS", "DELETE"))
    yield client.send(f"/runs/{run}/resume", {"token": "x"})
    yield client.get("/static/1/none.js")
    yield client.http.get(BASE)


def test_no_answer_is_without_the_security_headers(site):
    for answer in every_kind_of_answer(site):
        assert {name: answer.headers[name] for name in SECURITY} == SECURITY, answer.url
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers.get_list("content-security-policy") == [policy]


def test_the_callers_request_id_is_kept_if_it_is_one(site):
    ask = site.client().get
    assert ask("/none", headers={"x-request-id": "abcdefgh-1"}).headers["x-request-id"] == "abcdefgh-1"
    assert ask("/none", headers={"x-request-id": "<b>"}).headers["x-request-id"] != "<b>"


def test_a_host_may_be_allowed_to_frame_the_pages(site):
    client = site.client(with_={"frame_ancestors": ("'self'", "https://portal.example")})
    assert client.get("/").headers["content-security-policy"].endswith("frame-ancestors 'self' https://portal.example")


def test_static_files_are_kept_for_ever_and_need_nobody(site):
    files = set(re.findall(rf'(?:href|src)="({BASE}/static/[^"]+)"', site.get("/").text))
    assert len(files) == 3
    for file in files:
        answer = site.client(None).http.get(file)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "accept-encoding")
        plain = site.client(None).http.get(file, headers={"accept-encoding": "identity"})
        assert int(plain.headers["content-length"]) == len(plain.content)
        assert plain.content == answer.content
        # Asked for by a page of yesterday.
        assert site.client(None).http.get(re.sub(r"static/[^/]+", "static/older", file)).content == answer.content


@pytest.mark.parametrize("name", ["none.css", "..%2Fapp.py", "%2e%2e", "wr.css%00", "wr", ".css"])
def test_there_are_no_other_files(site, name):
    answer = site.client(None).get(f"/static/1/{name}")
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"


# --- a database that is away -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """A site whose database is no longer one. Clients of it, and a run that was there."""
    path = tmp_path_factory.mktemp("away") / "runs.db"
    with opened(make_site(f"sqlite:///{path}")) as site:
        site.ids["failed"] = site.fail()
        site.form = site.client().form(f"/runs/{site.ids['failed']}/resume")
        writer = sqlite3.connect(path)
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        writer.executescript("ALTER TABLE workflow_runs RENAME TO gone")
        yield site
        writer.executescript("ALTER TABLE gone RENAME TO workflow_runs")
        writer.close()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/runs",
        "/rows?run=x",
        "/jump?q=x",
        "/runs/{failed}",
        "/runs/{failed}.json",
        "/runs/{failed}/resume",
        "/runs/{failed}/rerun",
        "/runs/{failed}/cancel",
        "/runs/{failed}/compare",
        "/runs/{failed}/payload/input",
        "/workflows",
        "/workflows/safe",
    ],
)
def test_a_database_that_is_away_is_said_on_a_page(away, path):
    answer = away.get(path.format_map(away.ids))
    assert is_page(answer, 503)
    assert answer.headers["retry-after"] == "5"
    assert "The database is away" in answer.text
    assert not [word for word in ("sqlite", "no such table", "SELECT") if word in answer.text]


def test_acting_while_the_database_is_away_is_a_503(away):
    answer = away.client().send(f"/runs/{away.ids['failed']}/resume", away.form)
    assert is_page(answer, 503)
    assert answer.headers["retry-after"] == "5"


def test_our_own_fault_is_a_500_that_says_nothing_and_is_logged(site, monkeypatch, caplog):
    def broken(*_args, **_more):
        raise RuntimeError("our secret")

    monkeypatch.setattr(type(site.runs.desk), "list_runs", broken)
    answer = site.get("/runs")
    assert is_page(answer, 500)
    assert "our secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "our secret" in caplog.text


def test_an_error_says_where_to_go_on(site):
    assert "Nothing removes runs from this record" in text_of(site.get("/runs/none"))
    assert f'href="{BASE}/runs"' in site.get("/runs/none").text
