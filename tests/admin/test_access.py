"""Who may do what."""

from __future__ import annotations

import functools

import pytest
from starlette.requests import Request

from workflow_runs.admin import SCOPES, Principal, bearer_tokens, development_access
from workflow_runs.admin.access import ask, is_cross_site
from workflow_runs.errors import ConfigurationError

READING = {"workflows:read", "workflows:read-payload"}


def request(headers=(), *, client=("127.0.0.1", 5), scheme="http"):
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw, "client": client, "scheme": scheme})


# --- scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wildcard", ["*", "*:*", "workflows:*", " Workflows:* "])
def test_a_wildcard_grants_reading_only(wildcard):
    principal = Principal("u", [wildcard])
    assert {scope for scope in SCOPES if principal.may(scope)} == READING


@pytest.mark.parametrize("scope", ["*:trigger", "*:read", "workflow:*", "work*", "", "workflows", "**"])
def test_half_a_wildcard_grants_nothing(scope):
    assert not any(Principal("u", [scope]).may(asked) for asked in SCOPES)


@pytest.mark.parametrize("scope", list(SCOPES))
def test_a_scope_grants_itself_and_nothing_else(scope):
    assert {asked for asked in SCOPES if Principal(None, [f" {scope.upper()} "]).may(asked)} == {scope}


def test_one_text_is_no_collection_of_scopes():
    with pytest.raises(ConfigurationError):
        Principal("u", "workflows:read")
    with pytest.raises(ConfigurationError):
        Principal("u", [], workflows="checkout")


def test_a_principal_sees_all_workflows_unless_some_are_named():
    assert Principal("u", []).sees("anything")
    assert not Principal("u", [], workflows=[]).sees("anything")
    assert Principal("u", [], workflows=["a"]).sees("a")


# --- authorisers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, {"id": "u"}, "u", 1, object()])
async def test_what_is_no_principal_is_no_identity(answer):
    with pytest.raises(ConfigurationError):
        await ask(lambda _request: answer, request())


async def test_an_authoriser_may_be_plain_or_a_coroutine_function():
    principal = Principal("u", [])

    async def later(_request):
        return principal

    assert await ask(lambda _request: principal, request()) is principal
    assert await ask(later, request()) is principal
    assert await ask(functools.partial(later), request()) is principal


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:3232", "[::1]", "[::1]:65535"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "127.8.9.1", "::ffff:127.0.0.1"])
async def test_development_access_is_for_this_machine(host, peer):
    principal = await development_access()(request([("Host", host)], client=(peer, 5)))
    assert principal is not None
    assert principal.id is None
    assert all(principal.may(scope) for scope in SCOPES)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.1@evil",
        "localhost:80:80",
        "0.0.0.0",
        "",
        "[::2]",
    ],
)
async def test_development_access_knows_no_other_host(host):
    assert await development_access()(request([("Host", host)])) is None


@pytest.mark.parametrize("client", [("10.0.0.1", 5), ("testclient", 5), ("", 0), None, ("::2", 1)])
async def test_development_access_knows_no_other_peer(client):
    assert await development_access()(request([("Host", "localhost")], client=client)) is None


@pytest.mark.parametrize("headers", [[], [("Host", "localhost"), ("Host", "localhost")]])
async def test_development_access_wants_one_host(headers):
    assert await development_access()(request(headers)) is None


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_development_access_does_not_believe_a_proxy(header):
    assert await development_access()(request([("Host", "localhost"), (header, "127.0.0.1")])) is None


@pytest.mark.parametrize("given", ["Bearer secret", "bearer secret", "BEARER  secret", "Bearer secret "])
async def test_a_bearer_token_is_its_principal(given):
    principal = Principal("u", [])
    assert await bearer_tokens({"secret": principal})(request([("Authorization", given)])) is principal


@pytest.mark.parametrize(
    "given",
    [
        "secret",
        "Bearersecret",
        "Bearer",
        "Bearer ",
        "Basic secret",
        "Bearer secre",
        "Bearer secrets",
        "Bearer SECRET",
        "",
    ],
)
async def test_a_near_miss_is_nobody(given):
    assert await bearer_tokens({"secret": Principal("u", [])})(request([("Authorization", given)])) is None


async def test_two_authorization_headers_are_nobody():
    twice = [("Authorization", "Bearer secret")] * 2
    assert await bearer_tokens({"secret": Principal("u", [])})(request(twice)) is None
    assert await bearer_tokens({"secret": Principal("u", [])})(request()) is None


def test_an_empty_token_is_a_mistake():
    with pytest.raises(ConfigurationError):
        bearer_tokens({" ": Principal("u", [])})


# --- foreign pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "cross"),
    [
        ({}, False),  # no browser
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "nonsense"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://desk.example"}, True),
        ({"Origin": "http://desk.example"}, False),
        ({"Origin": "http://desk.example:80"}, False),
        ({"Origin": "http://desk.example:81"}, True),
        ({"Origin": "https://desk.example"}, True),
        ({"Origin": "http://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://desk.example:99999"}, True),
        ({"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}, False),  # trusted
    ],
)
def test_a_foreign_page_is_told_by_what_the_browser_says(headers, cross):
    asked = request([("Host", "desk.example"), *headers.items()])
    assert is_cross_site(asked, ["https://app.example"]) is cross


def test_an_origin_without_a_host_to_compare_is_foreign():
    assert is_cross_site(request([("Origin", "null")]), [])
