"""``make demo``: the desk on embedded SQLite, two applications behind it, an outage in each, and the repair.

    python -m examples.demo [--flights N] [--port P] [--directory DIR] [--no-serve]

The first line of standard output is the desk's URL, which answers from then on (without a token, to this machine only): open it in a
browser. The API is below it, at ``v1/admin``. The database and the ledgers of the fake outside world go to a fresh temporary folder that
is deleted at the end, or to ``--directory``, which is kept.
The desk is served until Ctrl-C or SIGTERM; with ``--no-serve`` the process ends with the story, with status 1 if it ended badly.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from starlette.applications import Starlette

from workflow_runs import WorkflowRuns
from workflow_runs.admin import development_access, mount_health_routes, mount_workflow_runs_admin_routes
from workflow_runs.admin.pages import PageSettings, mount_workflow_runs_pages

from . import checkout_finalize, flight_disruption
from .ledger import EffectLedger

HOST = "127.0.0.1"
PORT = 8321
OPERATOR = "operator@example.com"


class DeskServer(uvicorn.Server):
    """A server on a thread of its own, that says when it answers."""

    def __init__(self, runs: WorkflowRuns, listening: socket.socket) -> None:
        app = Starlette()
        mount_workflow_runs_admin_routes(app, runs.desk, authorize=development_access())
        mount_workflow_runs_pages(
            app,
            runs.desk,
            "",
            authorize=development_access(),
            settings=PageSettings(title="Demo Travel", environment="DEMO", environment_class="off"),
        )
        mount_health_routes(app, runs.store)
        super().__init__(uvicorn.Config(app, lifespan="off", log_level="warning"))
        self._listening = listening
        self._answering = threading.Event()
        self._thread = threading.Thread(target=self.run, kwargs={"sockets": [listening]}, name="desk")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self._answering.set()

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve while the block runs; gives the URL of the desk."""
        self._thread.start()
        self._answering.wait()
        try:
            yield f"http://{HOST}:{self._listening.getsockname()[1]}/"
        finally:
            self.should_exit = True
            self._thread.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration and return the exit status."""
    arguments = _arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    listening = _listen(arguments.port)
    with contextlib.ExitStack() as stack:
        if arguments.directory is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workflow-runs-demo-")))
        else:
            folder = arguments.directory
            folder.mkdir(parents=True, exist_ok=True)
        try:
            return _demonstrate(listening, folder, flights=arguments.flights, serve=arguments.serve)
        except KeyboardInterrupt:
            return 0


def _demonstrate(listening: socket.socket, folder: Path, *, flights: int | None, serve: bool) -> int:
    disrupted = list(flight_disruption.read_flights(flights))
    with (
        EffectLedger(folder / "checkout.jsonl") as shop_books,
        EffectLedger(folder / "flights.jsonl", synced=False) as flight_books,
    ):
        provider = checkout_finalize.PaymentProvider(shop_books)
        office = checkout_finalize.BackOffice(shop_books)
        partners = flight_disruption.partners(flight_books, flight_disruption.planned_outage(len(disrupted)))
        workflows = [
            checkout_finalize.checkout_finalize(provider, office),
            flight_disruption.flight_disruption(partners),
        ]
        with (
            WorkflowRuns(f"sqlite:///{folder / 'runs.db'}", workflows) as runs,
            DeskServer(runs, listening).serving() as url,
        ):
            print(url, flush=True)
            print(f"The desk. Its database and the ledgers are in {folder}.\n", flush=True)
            ended_well = _tell_checkout(runs, provider, office, shop_books)
            ended_well &= _tell_flights(runs, disrupted, flight_books, url)
            _leave_something(runs, provider, office, url)
            if serve:
                print("\nServing until Ctrl-C.", flush=True)
                signal.pause()
            return 0 if ended_well else 1


def _tell_checkout(
    runs: WorkflowRuns,
    provider: checkout_finalize.PaymentProvider,
    office: checkout_finalize.BackOffice,
    books: EffectLedger,
) -> bool:
    print("checkout-finalize: four orders while the payment provider and the invoicing system have a bad day")
    told = checkout_finalize.tell(runs, provider, office, actor=OPERATOR)
    for line in (
        f"  order-1  nothing went wrong                                     {told.smooth}",
        f"  order-2  the answer to the charge got lost; verify found it     {told.verified}",
        f"  order-3  charge refused: failed                                 {told.refused}",
        f"           resumed                                                {told.refused_resumed}",
        f"  order-4  charged, then invoicing was down: failed               {told.uninvoiced}",
        f"           resumed, without charging again                        {told.uninvoiced_resumed}",
    ):
        print(line)
    return _compare(books, checkout_finalize.expected_effects())


def _tell_flights(
    runs: WorkflowRuns, flights: Sequence[flight_disruption.Flight], books: EffectLedger, url: str
) -> bool:
    print(
        f"\nflight-disruption: {len(flights):,} flights out of New York in 2013, one run of four steps each", flush=True
    )
    outage = flight_disruption.planned_outage(len(flights))
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs ended", total=len(flights) + outage.refuses)
        told = flight_disruption.tell(runs, flights, actor=OPERATOR, on_ended=lambda: progress.advance(bar))
    print(
        f"  {len(told.failed):,} runs failed at 'rebook' while the partner was down; all were resumed from there, the rest kept"
    )
    print(
        f"  {_paid_eur(books):,} EUR per passenger ordered in all (Regulation (EC) No 261/2004 as a policy: flight_disruption/rule.py)"
    )
    print(f"  {time.monotonic() - began:.1f} s")
    ended_well = _compare(books, flight_disruption.expected_effects(flights)) and not told.unfinished
    if told.failed:
        _print_commands(url, told.failed[0], told.resumed[0])
    return ended_well


def _leave_something(
    runs: WorkflowRuns, provider: checkout_finalize.PaymentProvider, office: checkout_finalize.BackOffice, url: str
) -> None:
    uncharged, uninvoiced = checkout_finalize.leave(runs, provider, office)
    print(f"""
Two orders are left to you; what failed them works again. Open one, read the verdict, press r:
  {url}runs/{uncharged}  not charged: the provider refused before it did anything
  {url}runs/{uninvoiced}  charged, and without an invoice""")


def _paid_eur(books: EffectLedger) -> Decimal:
    lines = map(json.loads, books.path.read_text("utf-8").splitlines())
    return sum((Decimal(line["answer"]["amount_eur"]) for line in lines if line["effect"] == "compensate"), Decimal(0))


def _compare(books: EffectLedger, expected: Counter[Any]) -> bool:
    found = books.effects()
    if found == expected and not books.repeated:
        print(f"  the outside world saw {found.total():,} effects: each exactly once")
        return True
    wrong = (expected - found) + (found - expected)
    print(f"  WRONG: {wrong.total()} effects missing or too many, {books.repeated} repeated: {list(wrong)[:5]}")
    return False


def _print_commands(url: str, failed: str, resumed: str) -> None:
    base = f"{url}v1/admin"
    listed = f"{base}/workflow-runs"
    order = '{"input": {"id": "order-9", "booking_id": "BK9", "amount": "10.00", "email": "me@example.com"}}'
    print(f"""
What failed, newest first, without payloads:
  curl -s '{listed}?status=failed&view=summary&limit=3'
A run that the outage failed, with its steps, and the run that resumed it:
  curl -s '{listed}/{failed}'
  curl -s '{listed}/{resumed}'
One failure has at most one live resume; this is refused with 409 and the id of the one that exists:
  curl -s -X POST '{listed}/{failed}/resume'
A run of your own:
  curl -s -X POST '{base}/workflows/checkout-finalize/runs' -H 'Content-Type: application/json' -d '{order}'""")


def _listen(port: int) -> socket.socket:
    """Listen on the port, or on any free one when it is taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        listening.bind((HOST, 0))
    listening.listen()
    return listening


def _leave(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Two applications behind the desk.")
    parser.add_argument("--flights", type=int, metavar="N", help="only the first N of the 12,098 flights")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}, or a free one when that is taken")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keep database and ledgers here")
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="end with the story")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
