"""What a hostile client sends: some three hundred requests as bytes, and which answers are right. Tables; the judge stands beside.

``CANARY`` stands in whatever must not come back. A status of 0 means that the server may close the connection without a word, which is
what it does to bytes that are no HTTP.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

CANARY = "hunter2canary"
API = "/v1/admin"
TRIGGER = f"{API}/workflows/faults.chain/runs"
OPERATOR = "T-op"

REFUSED = frozenset({400})
MISSING = frozenset({400, 404})
CLOSED = frozenset({0, 400})


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request.

    ``echoes``: the answer may hold what was sent, as a page does that shows a search, and a refusal that names a key. ``is_half``: the
    server waits for more, and the client says that there is none.
    """

    name: str
    data: bytes
    allowed: Collection[int]
    echoes: bool = False
    is_half: bool = False


def request(
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    token: str | None = OPERATOR,
    headers: Iterable[str] = (),
    host: str | None = "127.0.0.1",
    content_type: str | None = "application/json",
    version: str = "HTTP/1.1",
) -> bytes:
    """Return a request that is whole, but for what the caller makes of it."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
        if content_type is not None:
            lines.append(f"Content-Type: {content_type}")
    lines += [*headers, "Connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


# --- paths -----------------------------------------------------------------------------------------------------------

SEGMENTS = (
    *("..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%252f..%252fetc", "%c0%ae%c0%ae%c0%af", "..%5c..%5c"),
    *("%00", "a%00b", "%0d%0aSet-Cookie:%20x=1", "%0a", "%ff%fe", "%ed%a0%80", "%zz", "%", "%e2%80%ae", "%F0%9F%A7%BE"),
    *("'%20OR%20'1'='1", "%27%3B%20DROP%20TABLE%20workflow_runs%3B--", "*", "%25", "_", "{runId}", "{{7*7}}", "${7*7}"),
    *("%3Cscript%3Ealert(1)%3C%2Fscript%3E", ";a=b", "a;jsessionid=1", "%20", "...", "CON", "~root", "wfrn_", "null"),
    *("wfrn_01m81srpafe07vg00hcm7rdwd5", "wfrn_" + "z" * 26, "WFRN_01M81SRPAFE07VG00HCM7RDWD5", "a" * 5_000),
    *("javascript:alert(1)", "file:%2F%2F%2Fetc%2Fpasswd", "0", "-1", "1e999", "undefined", "__proto__", "constructor"),
)  # fmt: skip


def paths() -> Iterator[Hostile]:
    """Ids and names of every kind, where one is expected."""
    for segment in SEGMENTS:
        named = f"{segment[:40]}{CANARY if len(segment) < 100 else ''}"
        with_canary = segment + CANARY
        yield Hostile(f"id {named}", request("GET", f"{API}/workflow-runs/{with_canary}"), MISSING)
        yield Hostile(f"page of {named}", request("GET", f"/desk/runs/{with_canary}"), MISSING, echoes=True)
    for segment in SEGMENTS[::4]:
        target = f"{API}/workflow-runs/{segment}{CANARY}/resume"
        yield Hostile(f"resume of {segment[:40]}", request("POST", target, b"{}"), MISSING)
        target = f"{API}/workflows/{segment}{CANARY}/runs"
        yield Hostile(f"trigger of {segment[:40]}", request("POST", target, b"{}"), MISSING, echoes=True)
    for target in (
        *("//etc/passwd", "/../../etc/passwd", "/desk/static/../../../etc/passwd", "/desk/static/x/..%2f..%2fapp.py"),
        *(
            "/desk/static/%2e%2e/%2e%2e/etc/passwd",
            "/v1/admin/../../etc/passwd",
            "/v1//admin/workflow-runs",
            "/v1/admin/",
        ),
        *(
            "/v1/admin/workflow-runs/",
            "/v1/admin/workflow-runs//",
            "/v1/admin/workflow-runs/x/y/z",
            "/.git/config",
            "/.env",
        ),
        *(
            "/desk/static/",
            "/desk//runs",
            "/openapi.json/x",
            "/healthz/../v1",
            "/v1/admin/workflow-runs%2Fx",
            "/V1/ADMIN",
        ),
    ):
        yield Hostile(f"path {target}", request("GET", target), {200, 303, 307, 308, 400, 404})


# --- bodies ----------------------------------------------------------------------------------------------------------

# JSON that is none, or that nobody can keep.
NO_VALUES = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "1e999": "1e999",
    "5,000 digits": "9" * 5_000,
    "NUL": f'"{CANARY}\\u0000"',
    "raw NUL": f'"{CANARY}\x00"',
    "raw control": f'"{CANARY}\x1f"',
    "half a pair": f'"{CANARY}\\ud800"',
    "second half first": f'"{CANARY}\\udc00\\ud800"',
    "duplicate": f'{{"{CANARY}": 1, "{CANARY}": 2}}',
    "NUL in a key": f'{{"{CANARY}\\u0000": 1}}',
    "deep": "[" * 2_000 + "]" * 2_000,
    "deep objects": '{"a":' * 300 + "1" + "}" * 300,
    "unclosed": "[" * 100_000,
    "comment": f"1 /* {CANARY} */",
    "trailing comma": "[1,]",
    "single quotes": f"'{CANARY}'",
    "hex": "0x10",
    "leading zero": "01",
    "plus": "+1",
    "word": CANARY,
    "bad escape": f'"{CANARY}\\x41"',
    "short escape": '"\\u12"',
}
NAMES_A_KEY = {"duplicate", "NUL in a key"}
PLACES = {
    "input": '{"input": %s}',
    "in an array of the input": '{"input": {"a": [1, %s]}}',
    "tag": '{"input": {}, "tags": [%s]}',
}
# JSON that a field does not take.
NOT_OF_ITS_TYPE = {
    "correlationId": ["1", "[]", "{}", "true", '""', f'"{CANARY}\\n"', '"' + "c" * 300 + '"'],
    "idempotencyKey": ["1", "[]", "{}", "true", '""', f'"{CANARY}\\r\\nX: y"', '"' + "k" * 300 + '"', '" "'],
    "tags": ["1", '"a"', "{}", "[1]", "[null]", '[""]', f'["{CANARY}\\n"]', json.dumps([f"t{n}" for n in range(60)])],
    "seedResults": ["{}", "[]", "null"],
    "parentRunId": ['"x"'],
    "triggeredByUserId": [f'"{CANARY}"'],
    f"{CANARY[:4]}Unknown": ["1"],
}
WHOLE_BODIES = {
    "nothing": b"",
    "white space": b" \r\n\t ",
    "text": CANARY.encode(),
    "array": b"[]",
    "null": b"null",
    "number": b"1",
    "two": b"{}{}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"input": 1}'.encode("utf-16"),
    "utf-32": '{"input": 1}'.encode("utf-32"),
    "latin-1": '{"input": "\xe9"}'.encode("latin-1"),
    "form": b"input=1&confirm=true",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\n1\r\n--x--',
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94.",
    "yaml": b"!!python/object/apply:os.system ['id']",
}
ACTIONS = {
    "confirm": ['"true"', "1", "null", "[true]", '"yes"'],
    "reason": ["1", "[]", f'"{CANARY}\\u0000"', '"' + "r" * 1_001 + '"'],
    "planHash": ["1", '"' + "h" * 200 + '"'],
    "fromStep": ["1", "[]", f'"{CANARY}\\u0000"'],
}


def bodies() -> Iterator[Hostile]:
    """What is no JSON, or says what may not be said."""
    for place, shape in PLACES.items():
        for name, value in NO_VALUES.items():
            data = (shape % value).encode()
            yield Hostile(f"{name} as {place}", request("POST", TRIGGER, data), REFUSED, echoes=name in NAMES_A_KEY)
    for field, values in NOT_OF_ITS_TYPE.items():
        for value in values:
            data = f'{{"input": {{}}, "{field}": {value}}}'.encode()
            yield Hostile(f"{field} {value[:20]}", request("POST", TRIGGER, data), REFUSED)
    for name, data in WHOLE_BODIES.items():
        yield Hostile(f"a body of {name}", request("POST", TRIGGER, data), REFUSED)
    for action in ("rerun", "resume", "cancel"):
        for field, values in ACTIONS.items():
            for value in values:
                target = f"{API}/workflow-runs/wfrn_none/{action}"
                sent = request("POST", target, f'{{"{field}": {value}}}'.encode())
                yield Hostile(f"{action} {field} {value[:20]}", sent, REFUSED)


# --- content types, lengths, encodings -------------------------------------------------------------------------------

CONTENT_TYPES = (
    *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "application/jsonx"),
    *("application/json; charset=latin-1", "application/json, text/plain", "application/ld+json", "json", "*/*", "\xff"),
    *("application/json; charset=utf-7", "application/octet-stream", "application/xml", f"application/{CANARY}", ""),
)  # fmt: skip


def envelopes() -> Iterator[Hostile]:
    """Bodies in the wrong wrapping."""
    for given in CONTENT_TYPES:
        sent = request("POST", TRIGGER, b'{"input": {}}', content_type=given)
        yield Hostile(f"content type {given!r}", sent, {400, 415})
    yield Hostile("no content type", request("POST", TRIGGER, b"{}", content_type=None), {415})
    sent = request("POST", TRIGGER, b"{}", headers=["Content-Type: text/plain"])
    yield Hostile("two content types", sent, {400, 415})
    bomb = gzip.compress(b'{"input": "' + b"x" * 10_000_000 + b'"}')
    for encoding in ("gzip", "deflate", "br", "GZIP", "gzip, gzip", "zstd"):
        sent = request("POST", TRIGGER, bomb, headers=[f"Content-Encoding: {encoding}"])
        yield Hostile(f"a bomb in {encoding}", sent, {400, 415})
    yield Hostile("a bomb undeclared", request("POST", TRIGGER, bomb), REFUSED)
    big = b'{"input": "' + b"x" * 1_500_000 + b'"}'
    yield Hostile("1.5 MB", request("POST", TRIGGER, big), {413})
    for length in ("-1", "abc", "1e3", "0x10", "9" * 30, "+5", "5, 5", "1_0", ""):
        sent = request("POST", TRIGGER, None, headers=[f"Content-Length: {length}", "Content-Type: application/json"])
        yield Hostile(f"length {length!r}", sent + b"{}", {0, 400, 413}, is_half="," in length)
    for encoding in ("chunked, chunked", "identity", "gzip, chunked", "chunked, identity", "xchunked", " chunked x"):
        sent = request(
            "POST", TRIGGER, None, headers=[f"Transfer-Encoding: {encoding}", "Content-Type: application/json"]
        )
        yield Hostile(f"transfer encoding {encoding}", sent + b"2\r\n{}\r\n0\r\n\r\n", {0, 202, 400, 415, 501})
    smuggling = request("POST", TRIGGER, b"{}", headers=["Transfer-Encoding: chunked"])
    yield Hostile("both lengths", smuggling, {0, 202, 400}, is_half=True)
    twice = request("POST", TRIGGER, b"{}", headers=["Content-Length: 7"])
    yield Hostile("two lengths", twice, CLOSED)
    for size in (b"zz", b"-1", b"ffffffffffffffff", b"2;" + b"x" * 20_000, b""):
        sent = request("POST", TRIGGER, None, headers=["Transfer-Encoding: chunked", "Content-Type: application/json"])
        data = sent + size + b"\r\n{}\r\n0\r\n\r\n"
        yield Hostile(f"chunk of {size[:20]!r}", data, {0, 202, 400, 413}, is_half=size.startswith(b"f"))


# --- who asks, and from where ----------------------------------------------------------------------------------------

TOKENS = (
    *(
        "",
        "T",
        "T-",
        "T-o",
        "T-opp",
        "t-op",
        "T-OP",
        "T-op,T-op",
        "T-ro-op",
        "'T-op'",
        '"T-op"',
        "T%2Dop",
        "T-op;",
    ),
    *("T\u00adop".replace("\u00ad", "\xad"), "T-op T-op", "Bearer T-op", "T-rw", "null", "undefined", "*", "a" * 4_000),
)
AUTHORIZATIONS = (
    *("T-op", "Basic T-op", "Basic VC1vcDo=", "BearerT-op", "Bearer:T-op", "Bearer=T-op", "Token T-op", "Digest T-op"),
    *("Bearer\tT-op", "Negotiate T-op"),
)


def strangers() -> Iterator[Hostile]:
    """Nobody, and somebody who is nearly somebody."""
    for target in (f"{API}/workflow-runs", f"{API}/workflows", "/desk/", "/desk/runs", "/openapi.json"):
        yield Hostile(f"nobody at {target}", request("GET", target, token=None), {401})
    for token in TOKENS:
        yield Hostile(f"token {token[:20]!r}", request("GET", f"{API}/workflow-runs", token=token), {400, 401})
    for given in AUTHORIZATIONS:
        sent = request("GET", f"{API}/workflow-runs", token=None, headers=[f"Authorization: {given}"])
        yield Hostile(f"authorization {given!r}", sent, {400, 401})
    twice = request("GET", f"{API}/workflow-runs", headers=["Authorization: Bearer T-ro"])
    yield Hostile("two authorizations", twice, {400, 401})
    for place in ("?token=T-op", "?access_token=T-op", "?authorization=Bearer%20T-op"):
        yield Hostile(f"token in {place}", request("GET", f"{API}/workflow-runs{place}", token=None), {401})
    cookie = request(
        "GET", f"{API}/workflow-runs", token=None, headers=["Cookie: token=T-op; Authorization=Bearer T-op"]
    )
    yield Hostile("token in a cookie", cookie, {401})
    for override in ("X-HTTP-Method-Override: POST", "X-Original-URL: /desk/", "X-Rewrite-URL: /desk/", "X-User: op"):
        sent = request("GET", f"{API}/workflow-runs", token=None, headers=[override])
        yield Hostile(f"override {override}", sent, {401})
    for method, target in (
        ("POST", TRIGGER),
        ("POST", f"{API}/workflow-runs/x/cancel"),
        ("POST", "/desk/runs/x/cancel"),
    ):
        yield Hostile(f"a reader acts at {target}", request(method, target, b"{}", token="T-ro"), {400, 403, 404, 415})


SITES = (
    *("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Sec-Fetch-Site: ", "Sec-Fetch-Site: same-origin, none"),
    *("Origin: https://evil.example", "Origin: null", "Origin: http://127.0.0.1.evil.example", "Origin: http://evil@127.0.0.1:1"),
    *("Origin: file://", "Origin: http://127.0.0.1:99999999", "Origin: http://[::1", "Origin: \xff", "Origin: javascript:1"),
)  # fmt: skip
HOSTS = (
    "evil.example",
    "",
    "127.0.0.1@evil.example",
    "127.0.0.1, evil.example",
    "[::1",
    "a" * 300,
    "127.0.0.1\x0b",
    "../..",
)


def sites() -> Iterator[Hostile]:
    """Pages of other sites, and hosts that are none."""
    for header in SITES:
        sent = request("POST", TRIGGER, b'{"input": {}}', headers=[header])
        yield Hostile(f"trigger with {header!r}", sent, {400, 403})
        form = request(
            "POST",
            "/desk/workflows/faults.chain/run",
            b"token=x",
            headers=[header],
            content_type="application/x-www-form-urlencoded",
        )
        yield Hostile(f"form with {header!r}", form, {400, 403})
    for host in HOSTS:
        yield Hostile(f"host {host[:30]!r}", request("GET", f"{API}/workflow-runs", host=host), {0, 200, 400})
    yield Hostile("no host", request("GET", f"{API}/workflow-runs", host=None), CLOSED)
    yield Hostile("two hosts", request("GET", f"{API}/workflow-runs", headers=["Host: evil.example"]), {0, 200, 400})
    preflight = ["Origin: https://evil.example", "Access-Control-Request-Method: POST"]
    yield Hostile("preflight", request("OPTIONS", TRIGGER, headers=preflight), {204})


# --- methods, headers, bytes -----------------------------------------------------------------------------------------

METHODS = (
    "PUT",
    "PATCH",
    "DELETE",
    "TRACE",
    "PROPFIND",
    "MKCOL",
    "LOCK",
    "PURGE",
    "get",
    "G\u00cbT",
    "GET/",
    "X" * 300,
)


def lines() -> Iterator[Hostile]:
    """Methods, versions and header lines of all kinds."""
    for method in METHODS:
        for target in (f"{API}/workflow-runs", TRIGGER, "/desk/runs", "/healthz"):
            sent = request(method, target, b"{}")
            yield Hostile(f"{method[:20]} {target}", sent, {0, 400, 404, 405, 501})
    yield Hostile("GET that acts", request("GET", f"{API}/workflow-runs/x/cancel"), {405})
    yield Hostile("POST that reads", request("POST", f"{API}/workflow-runs", b"{}"), {405})
    listing = f"{API}/workflow-runs"
    for version in ("HTTP/0.9", "HTTP/9.9", "HTTP/2.0", "HTTP/1.1x", "http/1.1", "HTTP/1.", "ICY"):
        yield Hostile(f"version {version}", request("GET", listing, version=version), {0, 200, 400, 401, 505})
    for header in (
        *(
            "X: " + "x" * 60_000,
            "X" * 70_000 + ": x",
            "X : y",
            "X\x00: y",
            "X: a\x00b",
            "X: a\rb",
            " folded: y",
            ": y",
            "X",
        ),
        *(
            "X-Request-Id: a\x0bb",
            "Upgrade: websocket",
            "Expect: 100-continue",
            "Expect: 200-ok",
            "Range: bytes=0-0,-1",
        ),
        *(
            "Connection: upgrade, x",
            "TE: trailers, x",
            "If-None-Match: *",
            "If-None-Match: " + '"x",' * 500,
            "Accept: x/y",
        ),
        *(
            f"X-Request-Id: {CANARY} <script>",
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Prefix: /../../",
            "Accept-Language: \xff",
        ),
    ):
        sent = request("GET", listing, headers=[header])
        yield Hostile(f"header {header[:30]!r}", sent, {0, 200, 304, 400, 401, 413, 417, 426, 431})
    many = [f"X-{number}: y" for number in range(5_000)]
    yield Hostile("5,000 headers", request("GET", listing, headers=many), {0, 200, 400, 431})
    for key in ("\xff", "", " ", "k" * 300, '"', '"a" "b"', "a\tb", '"a\\"'):
        sent = request("POST", TRIGGER, b"[]", headers=[f"Idempotency-Key: {key}"])
        yield Hostile(f"key {key[:20]!r}", sent, REFUSED)
    keys = ["Idempotency-Key: a", "Idempotency-Key: b"]
    yield Hostile("two keys", request("POST", TRIGGER, b'{"input": {}}', headers=keys), REFUSED)
    for name, data in {
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "lines without CR": request("GET", listing).replace(b"\r\n", b"\n"),
        "no line end": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X" * 200_000,
        "spaces": b"GET  /healthz   HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
        "absolute target": request("GET", f"http://evil.example{listing}"),
        "authority": request("CONNECT", "evil.example:443"),
        "asterisk": request("OPTIONS", "*"),
        "target with a space": request("GET", f"{listing}/a b"),
        "target with a control": request("GET", f"{listing}/a\x01b"),
        "target of bytes": request("GET", f"{listing}/\xff\xfe"),
        "a fragment": request("GET", f"{listing}#x"),
        "only zeroes": b"\x00" * 1_000,
        "only line ends": b"\r\n" * 1_000,
    }.items():
        yield Hostile(name, data, {0, 200, 400, 401, 404, 405})


# --- queries ---------------------------------------------------------------------------------------------------------

NUMBERS = (
    "-1",
    "0x10",
    "1e3",
    "1.0",
    "",
    "NaN",
    "9" * 40,
    "\u0663".encode().hex(),
    "%D9%A3",
    "1%00",
    "+1",
    "%201",
    "1_0",
)
QUERIES = {
    **{f"limit={value}": REFUSED for value in (*NUMBERS, "0", "201")},
    **{f"offset={value}": REFUSED for value in (*NUMBERS, str(2**31))},
    **{f"minDurationMs={value}": REFUSED for value in (*NUMBERS, str(2**53))},
    **dict.fromkeys(
        (
            *("limit=1&limit=2", "unknown=1", f"{CANARY}=1", "status=paid", "state=SUCCEEDED", "view=all", "cursor=x"),
            *("cursor=" + "A" * 3_000, "cursor=d2Zybl8&offset=1", "cursor=%00", "tag=", "tag=%00", "tag=%ff", "tag=%ed%a0%80"),
            *("startedSince=yesterday", "startedSince=2026-01-01", "startedSince=9999-12-31T23:59:59-23:59", "startedUntil=0"),
            *("startedSince=0000-00-00T00:00:00Z", "startedSince=2026-02-30T00:00:00Z", "a" * 3_000 + "=1", "&".join(["tag=x"] * 200)),
            *("workflowName=", "correlationId=%00", "%", "%zz=1", "limit", "limit=", "limit[]=1", "limit%00=1"),
        ),
        REFUSED,
    ),
    # Any text is a question.
    **dict.fromkeys(
        (
            *("tag='%20OR%201=1--", "correlationId=%25", "fingerprint=_", "workflowName=" + "w" * 5_000),
            *("parentRunId=../..", "rootRunId=%F0%9F%A7%BE"),
        ),
        frozenset({200}),
    ),
    "tag=" + "t" * 60_000: frozenset({0, 200, 400, 414}),
}  # fmt: skip
SEARCHES = (
    *(
        "status:paid",
        "tag:",
        '"',
        "((((",
        "-" * 500,
        "a OR b",
        "input.a.b.c:1",
        "input." + "a." * 300 + "b:1",
        "duration:>1e999",
    ),
    *(
        "duration:<-1",
        "started:>yesterday",
        "started:>9999-99-99",
        "%00",
        "\\",
        "'; DROP TABLE workflow_runs;--",
        "%",
        "_",
        "*",
    ),
    *(
        "<script>alert(1)</script>",
        "{{7*7}}",
        "x" * 5_000,
        " ".join(f"tag:t{n}" for n in range(300)),
        "\u202e",
        "id:../..",
    ),
)


def queries() -> Iterator[Hostile]:
    """Parameters out of range, unknown, repeated, huge."""
    for query, allowed in QUERIES.items():
        yield Hostile(
            f"query {query[:40]}", request("GET", f"{API}/workflow-runs?{query}"), allowed, echoes=CANARY in query
        )
    for query in ("include=all", "include=stack&include=stack", "x=1"):
        yield Hostile(f"detail {query}", request("GET", f"{API}/workflow-runs/x?{query}"), REFUSED)
    for query in ("kind=both", "fromStep=", "fromStep=%00", "kind=resume&kind=rerun"):
        yield Hostile(f"plan {query}", request("GET", f"{API}/workflow-runs/x/plan?{query}"), REFUSED)
    for search in SEARCHES:
        asked = "".join(f"%{byte:02x}" for byte in search.encode())
        sent = request("GET", f"/desk/runs?q={asked}")
        yield Hostile(f"search {search[:30]!r}", sent, {0, 200, 400, 414}, echoes=True)
    for query in (
        "page=-1",
        "page=9999999999999",
        "offset=x",
        "q=%ff",
        "q=a&q=b",
        f"{CANARY}=1",
        "since=x",
        "tz=../../etc/passwd",
    ):
        yield Hostile(f"page {query}", request("GET", f"/desk/runs?{query}"), {200, 303, 400, 404}, echoes=True)
    for target in (
        "/desk/compare?run=x",
        "/desk/compare?run=x&run=y&run=z",
        "/desk/jump?q=%00",
        "/desk/rows?run=" + "x" * 500,
    ):
        yield Hostile(target[:40], request("GET", target), {200, 303, 400, 404}, echoes=True)
    for last in ("x", "-1", "9" * 400, "a-" + "9" * 30, "%00"):
        sent = request("GET", f"/desk/events?run=x&last={last}", headers=["Accept: text/html"])
        yield Hostile(f"events {last[:20]}", sent, {200, 400, 404, 406}, echoes=True)


def all_of_them() -> list[Hostile]:
    """Return every request."""
    return [*paths(), *bodies(), *envelopes(), *strangers(), *sites(), *lines(), *queries()]
