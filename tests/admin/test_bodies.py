"""Hostile bodies: a definite 4xx that names the field, nothing recorded, nothing echoed, no list broken."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

BASE = "/v1/admin"
TRIGGER = f"{BASE}/workflows/safe/runs"
RERUN = f"{BASE}/workflow-runs/x/rerun"
JSON_TYPE = {"content-type": "application/json"}


def deep(levels, inside="1"):
    return f'{{"input":{"[" * levels}{inside}{"]" * levels}}}'.encode()


HOSTILE = {
    "nothing": (b"", "body"),
    "white space": (b" \n\t", "body"),
    "no json": (b"hello", "body"),
    "half": (b'{"input": {"a": [1, ', "input.a[1]"),
    "two": (b"{}{}", "body"),
    "byte order mark": (b"\xef\xbb\xbf{}", "body"),
    "not utf-8": (b'{"input": "\xff"}', "input"),
    "utf-16": ('{"input": 1}'.encode("utf-16"), "body"),
    "NaN": (b'{"input": {"x": NaN}}', "input.x"),
    "infinity": (b'{"input": [Infinity]}', "input[0]"),
    "minus infinity": (b'{"input": -Infinity}', "input"),
    "1e999": (b'{"input": [0, 1e999]}', "input[1]"),
    "5,000 digits": (b'{"input": ' + b"9" * 5_000 + b"}", "input"),
    "NUL": (b'{"input": {"a": "x\\u0000y"}}', "input.a"),
    "raw NUL": (b'{"input": "x\x00y"}', "input"),
    "NUL in a key": (b'{"input": {"a\\u0000": 1}}', None),
    "lone surrogate": (b'{"input": "\\ud800"}', "input"),
    "second half first": (b'{"input": "\\udc00\\ud800"}', "input"),
    "duplicate": (b'{"input": {"a": 1, "a": 1}}', "input.a"),
    "duplicate at the top": (b'{"input": 1, "input": 1}', "input"),
    "101 levels": (deep(101), None),
    "2,000 levels": (deep(2_000), None),
    "100,000 levels": (deep(100_000), None),
    "unclosed": (b"[" * 100_000, None),
    "an array": (b"[]", None),
    "null": (b"null", None),
    "unknown member": (b'{"inputs": {}}', "inputs"),
    "tag with NUL": (b'{"tags": ["a\\u0000"]}', "tags[0]"),
    "tag with a line": (b'{"tags": ["ok", "a\\nb"]}', "tags[1]"),
    "key of spaces": (b'{"idempotencyKey": "   "}', "idempotencyKey"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_trigger_is_a_400_that_names_the_field(shop, client, name):
    body, field = HOSTILE[name]
    before = client.get(f"{BASE}/workflow-runs?limit=1").json()["total"]
    answer = client.post(TRIGGER, content=body, headers=JSON_TYPE)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["code"] == "invalid_request"
    if field is not None:
        assert answer.json()["field"] == field
    assert len(answer.text) < 1_000
    assert client.get(f"{BASE}/workflow-runs?limit=1").json()["total"] == before


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in {"nothing", "unknown member", "duplicate"}])
@pytest.mark.parametrize("action", ["rerun", "resume", "cancel"])
def test_a_hostile_action_is_a_400(client, name, action):
    body, _ = HOSTILE[name]
    if name.startswith(("tag", "key")):
        body = b'{"reason": "a\\u0000"}'
    answer = client.post(f"{BASE}/workflow-runs/x/{action}", content=body, headers=JSON_TYPE)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_body")


@pytest.mark.parametrize("confirm", ['"true"', "1", '"yes"', "null", "[true]", '"on"', "1.0"])
def test_a_confirmation_that_is_no_boolean_is_refused_by_name(client, confirm):
    answer = client.post(RERUN, content=f'{{"confirm": {confirm}}}'.encode(), headers=JSON_TYPE)
    assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (400, "invalid_body", "confirm")


def test_a_value_is_never_echoed(client):
    for body in (b'{"input": "hunter2\\ud800"}', b'{"tags": ["hunter2\\n"]}', b'{"correlationId": {"hunter2": 1}}'):
        assert b"hunter2" not in client.post(TRIGGER, content=body, headers=JSON_TYPE).content


# --- content type ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "text/json", "",
     "application/json; charset=latin-1", "application/json, text/plain", "application/ld+json", "json"],
)  # fmt: skip
def test_a_body_has_to_be_declared_as_json(client, given):
    answer = client.post(TRIGGER, content=b"{}", headers={"content-type": given})
    assert (answer.status_code, answer.json()["error"]) == (415, "unsupported_media_type")


def test_a_body_without_a_content_type_is_refused(client):
    assert client.post(TRIGGER, content=b"{}").status_code == 415


def test_two_content_types_are_none(client):
    headers = [("content-type", "application/json"), ("content-type", "text/plain")]
    assert client.post(TRIGGER, content=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize(
    "given",
    ["application/json", "Application/JSON", 'application/json; charset="UTF-8"', "application/json;charset=utf8;"],
)
def test_json_may_say_that_it_is_utf_8(client, given):
    assert client.post(TRIGGER, content=b"{}", headers={"content-type": given}).status_code == 202


def test_a_compressed_body_is_not_unpacked(client):
    headers = {**JSON_TYPE, "content-encoding": "gzip"}
    assert client.post(TRIGGER, content=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize("action", ["rerun", "resume", "cancel"])
@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, JSON_TYPE])
def test_an_empty_body_needs_no_content_type(client, action, headers):
    answer = client.post(f"{BASE}/workflow-runs/x/{action}", headers=headers)
    assert answer.json()["error"] == "not_found"


def test_a_trigger_needs_a_body(client):
    answer = client.post(TRIGGER)
    assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (400, "invalid_request", "body")


# --- size ------------------------------------------------------------------------------------------------------------


def padded(size):
    body = b'{"input":""}'
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


def test_the_limit_is_a_million_bytes(client):
    assert client.post(TRIGGER, content=padded(1_000_000), headers=JSON_TYPE).status_code == 202
    answer = client.post(TRIGGER, content=padded(1_000_001), headers=JSON_TYPE)
    assert (answer.status_code, answer.json()["error"], answer.json()["maxBytes"]) == (
        413,
        "payload_too_large",
        1_000_000,
    )


def test_bytes_are_counted_where_there_is_no_length(client):
    def chunks() -> Iterator[bytes]:
        yield b'{"input":"'
        for _ in range(20):
            yield b"x" * 65_536
        yield b'"}'

    assert client.post(TRIGGER, content=chunks(), headers=JSON_TYPE).status_code == 413


@pytest.mark.parametrize("length", ["-1", "abc", "1.0", "0x10", "9" * 40])
def test_a_length_that_is_no_number_is_refused(client, length):
    answer = client.post(TRIGGER, content=b"{}", headers={**JSON_TYPE, "content-length": length})
    assert answer.status_code == 400
    assert answer.json()["field"] == "Content-Length"


@pytest.fixture
def port(shop) -> Iterator[int]:
    """The shop behind a real server."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()  # so that a client which comes before the server waits
    config = uvicorn.Config(shop.app(), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    listening.close()


def test_a_client_that_sends_ten_megabytes_reads_its_413(port):
    for headers, body in (({}, padded(10_000_000)), ({"Transfer-Encoding": "chunked"}, iter([padded(10_000_000)]))):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        sent = {**JSON_TYPE, "Authorization": "Bearer all-token", **headers}
        connection.request("POST", TRIGGER, body=body, headers=sent, encode_chunked=bool(headers))
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]) == (413, "payload_too_large")
        connection.close()
