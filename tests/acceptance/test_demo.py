"""``make demo`` as a process: what it prints, what it serves, how it ends."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import socket
import urllib.error
import urllib.request

DEADLINE_S = 60.0


def curl(line: str) -> bytes:
    """What curl would answer to such a line: not every machine that tests has one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program", choices=["curl"])
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="header", default="Accept: */*")
    parser.add_argument("-d", dest="data", type=str.encode)
    parser.add_argument("url")
    asked = parser.parse_args(shlex.split(line))
    name, _, value = asked.header.partition(": ")
    request = urllib.request.Request(asked.url, asked.data, {name: value}, method=asked.method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.read()


def test_the_first_line_is_the_url_of_a_desk_that_answers_without_a_token(start):
    demo = start(["-m", "examples.demo", "--flights", "100", "--port", "0"])

    url = demo.line()

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        assert answer.status == 200
        assert b"<h1" in answer.read()
    with urllib.request.urlopen(f"{url}v1/admin/workflow-runs?limit=1", timeout=DEADLINE_S) as answer:
        assert answer.status == 200
    while demo.line() != "Serving until Ctrl-C.":
        pass
    assert demo.stop(signal.SIGTERM) == 0
    assert demo.output().count("each exactly once") == 2


def test_the_commands_that_it_prints_work(start):
    demo = start(["-m", "examples.demo", "--flights", "100", "--port", "0"])
    said: list[str] = []
    while (line := demo.line()) != "Serving until Ctrl-C.":
        said.append(line)

    answers = [json.loads(curl(line)) for line in said if line.startswith("  curl ")]

    failed_runs, failed, resumed, refused, accepted = answers
    assert {run["status"] for run in failed_runs["data"]} == {"failed"}
    assert failed["data"]["run"]["error"]["stepName"] == "rebook"
    assert resumed["data"]["run"]["status"] == "succeeded"
    assert (refused["error"], refused["runId"]) == ("already_resumed", resumed["data"]["run"]["id"])
    assert accepted["data"]["workflowName"] == "checkout-finalize"
    assert demo.stop(signal.SIGINT) == 0


def test_it_takes_a_free_port_when_its_own_is_taken(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start(
            ["-m", "examples.demo", "--flights", "10", "--port", str(port), "--no-serve", "--directory", str(tmp_path)]
        )
        url = demo.line()

        assert f":{port}/" not in url
        assert "each exactly once" in demo.output()
    assert demo.process.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"runs.db", "checkout.jsonl", "flights.jsonl"}
