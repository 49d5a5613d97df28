"""The shop that the browser tests, and the screenshots, look at: real runs of real workflows, with everything that goes wrong in one.

What matters was executed by the engine: failures before and after an effect, guards of each kind, retries, parallel steps, resumes,
compensation, cancelling, runs that hold. What only has to be many was written through the journal with ids of earlier times.
``Shop.ids`` names the runs. A test that acts on a run makes one of its own (``fail_at_invoice`` and its likes).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from workflow_runs import AsyncRun, Cancelled, Retry, Run, Workflow, WorkflowRuns, workflow
from workflow_runs.clock import Clock, run_id_floor, to_millis
from workflow_runs.model.digests import digest
from workflow_runs.model.entries import RunEnded, StartRun, StepEnded
from workflow_runs.model.failures import describe
from workflow_runs.model.records import Run as RunRecord, StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState

WAIT_S: Final = 60.0  # for anything; reached only when something is broken
OPERATOR: Final = "irina.dobre@acme.example"

# What must never do anything but stand there as text. ``window.hacked`` tells if it did.
MARKUP: Final = '<script>window.hacked=1</script><img src="x" onerror="window.hacked=2">'
ATTRIBUTE: Final = "\"'><svg onload=window.hacked=3> ' onfocus='window.hacked=4' autofocus"
LINK: Final = "javascript:window.hacked=5"
TEMPLATE: Final = "{{ 7771 * 7773 }} {% include 'x' %} ${7771*7773}"
BIDI: Final = "invoice_\u202egpj.exe \u2066isolated\u2069 zero\u200bwidth"
CONTROL: Final = "bell\x07 escape\x1b[31mred\x1b[0m return\rover tab\there"
HOSTILE_NAME: Final = '<b onmouseover="window.hacked=6">bold</b> & "quotes"/slash?#%2F'
LONG_WORD: Final = "Donaudampfschifffahrtsgesellschaftskapitän" * 4


class ShopClock(Clock):
    """The machine's clock, set back for what happened earlier, and put forward by work that nobody wants to wait for."""

    def __init__(self) -> None:
        self._behind_ms = 0
        self._spent_s = 0.0
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._random = random.Random(20)

    def turn_back(self, **ago: float) -> None:
        """Let it be so long ago; nothing: now."""
        with self._lock:
            self._behind_ms = round((timedelta(**ago).total_seconds() + self._spent_s) * 1000)

    def spend(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._spent_s += seconds

    def now_millis(self) -> int:
        return super().now_millis() - self._behind_ms + round(self._spent_s * 1000)

    def monotonic(self) -> float:
        return super().monotonic() + self._spent_s

    def new_run_id(self) -> str:
        return self.run_id_at(self.now())

    def run_id_at(self, moment: datetime) -> str:
        """An id of that moment, in the shape of a UUIDv7: its time, a count, and something that tells it apart."""
        letters = "0123456789abcdefghjkmnpqrstvwxyz"
        with self._lock:
            number = next(self._numbers)
            tail = "".join(self._random.choices(letters, k=12))
        return f"{run_id_floor(moment)[:15]}e{letters[number >> 5 & 31]}{letters[number & 31]}8{tail}"


class ProviderUnavailable(Exception):
    """A system refused the call before doing anything."""

    code = "provider_unavailable"


class CardProcessorError(Exception):
    """The connection broke after the request was sent."""

    code = "connection_lost"


@dataclass(frozen=True, slots=True)
class Order:
    """What was bought."""

    id: str
    amount: Decimal
    email: str = "ada@example.com"
    nights: int = 2


@dataclass
class World:
    """What is outside of the shop: its switches, and the books of what was done there."""

    clock: ShopClock
    invoicing: bool = True
    card_answers: bool = True
    gate: threading.Event = field(default_factory=threading.Event)
    arrived: Counter[str] = field(default_factory=Counter)  # who waits, or waited, at the gate
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def did(self, effect: str, subject: str, took_s: float) -> None:
        self.clock.spend(took_s)
        with self.changed:
            self.effects[effect, subject] += 1

    def hold(self, who: str) -> str:
        with self.changed:
            self.arrived[who] += 1
            self.changed.notify_all()
        assert self.gate.wait(WAIT_S * 20)
        return "let through"

    def await_arrival(self, who: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.arrived[who], WAIT_S)


def _workflows(world: World) -> list[Workflow]:
    return [
        _checkout(world),
        _refund(world),
        _rebooking(world),
        *_guarded(world),
        _supplier_settlement(world),
        _points(world),
        _visa_check(),
        _schedule_change(world),
        _inventory(),
        _hostile(),
    ]


def _checkout(world: World) -> Workflow:
    def confirm(order: Order) -> dict[str, Any]:
        world.did("confirm-booking", order.id, 0.118)
        return {"code": f"{order.id}-A7", "rooms": [{"name": "Deluxe double", "nights": order.nights}]}

    def charge(order: Order) -> dict[str, Any]:
        world.did("charge", order.id, 0.612)
        if not world.card_answers:
            raise CardProcessorError(f"the connection to the card processor broke after the request for {order.id}")
        return {"id": f"ch_{order.id}", "amount": str(order.amount), "currency": "EUR", "card": "[redacted]"}

    def invoice(order: Order) -> dict[str, str]:
        if not world.invoicing:
            world.clock.spend(0.9)
            raise ProviderUnavailable(f"invoicing answers 503 Service Unavailable for {order.id}")
        world.did("issue-invoice", order.id, 0.34)
        return {"number": f"INV-{order.id}", "url": f"https://invoices.example/{order.id}"}

    def mail(order: Order) -> str:
        world.did("send-confirmation", order.id, 0.071)
        return f"mail to {order.email}"

    @workflow(
        "checkout-finalize",
        idempotency="unsafe",
        description="Confirms the booking, charges the card, sends the invoice.",
    )
    def checkout(run: Run, order: Order) -> dict[str, str]:
        run.step("confirm-booking", confirm, order, effect="idempotent")
        run.step("charge", charge, order, effect="unsafe")
        number = run.step("issue-invoice", invoice, order, effect="idempotent")
        run.step("send-confirmation", mail, order, effect="idempotent")
        return {"invoice": number["number"]}

    return checkout


def _refund(world: World) -> Workflow:
    def pay_back(order: Order) -> str:
        world.did("pay-back", order.id, 0.5)
        return "paid back"

    @workflow("refund-payment", idempotency="unsafe", description="Pays a cancelled booking back.")
    def refund(run: Run, order: Order) -> str:
        return run.step("pay-back", pay_back, order)

    return refund


def _rebooking(world: World) -> Workflow:
    def find(flight: str) -> str:
        world.did("find-seats", flight, 1.4)
        return "LH 1652, 2 seats"

    def rebook(flight: str) -> str:
        if not world.invoicing:
            raise ProviderUnavailable("the airline's rebooking desk answers 503")
        world.did("rebook", flight, 2.2)
        return f"{flight} rebooked"

    @workflow("flight-rebooking", idempotency="resume-only", description="Finds other seats and books them.")
    def rebooking(run: Run, flight: str) -> str:
        run.step("find-seats", find, flight, effect="read")
        return run.step("rebook", rebook, flight, effect="idempotent")

    return rebooking


def _guarded(world: World) -> list[Workflow]:
    """Three workflows that fail at an effect; their guards allow, refuse and raise (``make_shop``)."""

    def make(name: str, description: str) -> Workflow:
        def reserve(order_id: str) -> str:
            world.did(name, order_id, 0.3)
            return f"reserved {order_id}"

        def take(order_id: str) -> str:
            world.clock.spend(0.4)
            if not world.card_answers:
                raise CardProcessorError("the answer got lost")
            return f"taken {order_id}"

        @workflow(name, idempotency="unsafe", description=description)
        def guarded(run: Run, order_id: str) -> str:
            run.step("reserve", reserve, order_id, effect="idempotent")
            return run.step("take-deposit", take, order_id, effect="unsafe")

        return guarded

    return [
        make("seat-selection", "Reserves seats. Its guard asks the airline."),
        make("hotel-voucher", "Issues a voucher. Its guard refuses after the deadline."),
        make("insurance-policy", "Writes a policy. Its guard is broken."),
    ]


def _supplier_settlement(world: World) -> Workflow:
    def hold_stock(lot: str) -> str:
        world.did("hold-stock", lot, 0.2)
        return f"hold {lot}"

    def release(_held: str) -> None:
        world.clock.spend(0.1)

    def pay(lot: str) -> str:
        world.clock.spend(0.3)
        raise ProviderUnavailable(f"the supplier's bank refuses {lot}")

    @workflow("supplier-settlement", idempotency="safe", description="Holds stock and pays for it, or neither.")
    def settle(run: Run, lot: str) -> str:
        run.step("hold-stock", hold_stock, lot, effect="compensatable", compensate=release)
        run.step("book-cost", hold_stock, lot, effect="compensatable", compensate=release)
        return run.step("pay", pay, lot)

    return settle


def _points(world: World) -> Workflow:
    tries: Counter[str] = Counter()

    def look_up(member: str) -> int:
        world.clock.spend(0.25)
        tries[member] += 1
        if tries[member] < 3:
            raise ProviderUnavailable(f"try {tries[member]} timed out")
        return 3

    def add(partner: str) -> int:
        world.clock.spend(0.2)
        return len(partner)

    @workflow(
        "loyalty-points", idempotency="safe", description="Adds points at all partners at once.", tags=["nightly"]
    )
    def points(run: Run, member: str) -> int:
        run.step("look-up", look_up, member, retry=Retry(attempts=3, first_delay_s=0.001))
        if member == "leaves":
            raise Cancelled("the member left the programme")
        partners = ("airline", "hotel", "car", "rail")
        added = run.gather(*(lambda p=p: run.step("add", add, p, key=p) for p in partners))
        return sum(added)

    return points


def _visa_check() -> Workflow:
    async def submit(_passport: str) -> str:
        await asyncio.Event().wait()
        return "never"

    @workflow("visa-check", idempotency="unsafe", description="Files an application nobody can ask about.")
    async def visa(run: AsyncRun, passport: str) -> str:
        return await run.step("submit", submit, passport, effect="unsafe", timeout_s=0.05)

    return visa


def _schedule_change(world: World) -> Workflow:
    def prepare(flight: str) -> str:
        world.clock.spend(0.2)
        return flight

    @workflow("schedule-change", idempotency="safe", description="Waits for the airline, then tells the passengers.")
    def change(run: Run, flight: str) -> str:
        run.step("prepare", prepare, flight)
        return run.step("await-airline", world.hold, flight)

    return change


def _inventory() -> Workflow:
    def sync(number: int) -> dict[str, int]:
        if number == 243:
            raise ProviderUnavailable("hotel 243 closed its interface")
        return {"hotel": number, "rooms": number % 40}

    @workflow("inventory-sync", idempotency="safe", description="Reads the free rooms of all hotels.")
    def inventory(run: Run, hotels: int) -> int:
        for number in range(1, hotels + 1):
            run.step("sync-hotel", sync, number, key=f"hotel-{number}", effect="read")
        return hotels

    return inventory


def _hostile() -> Workflow:
    def fine(_value: Any) -> Any:
        deep: Any = MARKUP
        for level in range(60):
            deep = {f"level {level} {ATTRIBUTE}": deep}
        return {
            MARKUP: LINK,
            "template": TEMPLATE,
            "bidi": BIDI,
            "control": CONTROL,
            "deep": deep,
            "long": LONG_WORD * 20,
        }

    def huge() -> list[str]:
        return [f"{number} {MARKUP}" for number in range(8_000)]

    def fails(_value: Any) -> None:
        raise ProviderUnavailable(f"{MARKUP} {ATTRIBUTE} {CONTROL} {BIDI} {TEMPLATE} {LINK} {LONG_WORD}")

    @workflow(HOSTILE_NAME, idempotency="unsafe", description=f"{MARKUP} {TEMPLATE}", version=MARKUP)
    def hostile(run: Run, value: Any) -> Any:
        run.step(MARKUP, fine, value, effect="unsafe")
        run.step(BIDI, huge, effect="read", key=ATTRIBUTE)
        return run.step(f"{ATTRIBUTE} {LONG_WORD}"[:190], fails, value, effect="idempotent")

    return hostile


# --- the shop ---------------------------------------------------------------------------------------------------------


@dataclass
class Shop:
    """The shop's runs, and the hands to make more of them."""

    runs: WorkflowRuns
    clock: ShopClock
    world: World
    ids: dict[str, str] = field(default_factory=dict)
    _committed: threading.Condition = field(default_factory=threading.Condition)
    _bookings: Any = field(default_factory=lambda: itertools.count(4800))

    def close(self) -> None:
        self.world.gate.set()
        self.runs.close()

    # --- one run ---

    def order(self, **more: Any) -> Order:
        return Order(f"bk_{next(self._bookings)}", Decimal("349.00"), **more)

    def trigger(self, name: str, input: Any, *, about: str | None = None, tags: tuple[str, ...] = ()) -> str:
        key = about or (input.id if isinstance(input, Order) else None)
        return self.runs.trigger(name, input, correlation_id=key, tags=tags, triggered_by_user_id=OPERATOR)

    def run(self, name: str, input: Any, **fields: Any) -> str:
        """Trigger and wait for the end."""
        run_id = self.trigger(name, input, **fields)
        self.runs.wait(run_id, WAIT_S)
        return run_id

    def until(self, run_id: str, holds: Callable[[RunRecord], bool]) -> RunRecord:
        """Wait until the record of a run is so."""
        found: list[RunRecord] = []

        def look() -> bool:
            found[:] = [run for run in [self.runs.store.get_run(run_id)] if run is not None and holds(run)]
            return bool(found)

        with self._committed:
            assert self._committed.wait_for(look, WAIT_S), run_id
        return found[0]

    def after_commit(self, _entries: object) -> None:
        with self._committed:
            self._committed.notify_all()

    # --- runs for tests that act on them ---

    def fail_at_invoice(self, **more: Any) -> str:
        """Charged, then invoicing was down; it is up again."""
        self.world.invoicing = False
        try:
            return self.run("checkout-finalize", self.order(), **more)
        finally:
            self.world.invoicing = True

    def fail_at_charge(self) -> str:
        """The answer to a charge got lost: it may have taken effect."""
        return self._without_card("checkout-finalize", self.order())

    def fail_guarded(self, name: str) -> str:
        """Fail where a guard knows more: ``seat-selection`` allows, ``hotel-voucher`` refuses, ``insurance-policy`` raises."""
        order_id = self.order().id
        return self._without_card(name, order_id, about=order_id)

    def fail_rebooking(self) -> str:
        self.world.invoicing = False
        try:
            return self.run("flight-rebooking", "LH1650", about=self.order().id)
        finally:
            self.world.invoicing = True

    def hold(self, flight: str) -> str:
        """A run that runs until the shop closes."""
        run_id = self.trigger("schedule-change", flight, about=self.order().id)
        self.world.await_arrival(flight)
        return run_id

    def _without_card(self, name: str, input: Any, **fields: Any) -> str:
        self.world.card_answers = False
        try:
            return self.run(name, input, **fields)
        finally:
            self.world.card_answers = True

    # --- many at once, through the journal ---

    def record(
        self,
        name: str,
        began: datetime,
        steps: list[tuple[str, int, EffectClass]],
        *,
        error: Exception | None = None,
        state: RunState | None = None,
        code_version: str | None = None,
        about: str | None = None,
        tags: tuple[str, ...] = (),
        result: Any = None,
    ) -> str:
        """Write a run that has ended, with steps one after the other (name, milliseconds, effect); an error is the last one's."""
        run_id, at_ms = self.clock.run_id_at(began), to_millis(began)
        request = RunRequest(
            name, name, input='{"order":"7"}', trigger="api", correlation_id=about, tags=tags, code_version=code_version
        )
        submit = self.runs.journal.submit
        submit(StartRun(run_id, request, RunState.RUNNING))
        failure = None
        for place, (label, took_ms, effect) in enumerate(steps, 1):
            fails = error is not None and place == len(steps)
            failure = describe(error, step_name=label) if fails else None
            ended = StepState.FAILED if fails else StepState.SUCCEEDED
            output = None if fails else json.dumps({"done": label})
            start = (run_id, None, StepKey(label), 1, place, StepKind.STEP, effect, digest(label), at_ms)
            at_ms += took_ms
            submit(StepEnded(*start, ended, Origin.EXECUTED, output, failure, at_ms, took_ms))
        ended_as = state or (RunState.SUCCEEDED if error is None else RunState.FAILED)
        submit(RunEnded(run_id, ended_as, at_ms, None if result is None else json.dumps(result), failure)).result(
            WAIT_S
        )
        return run_id


def make_shop(url: str) -> Shop:
    """Return an open shop without a single run."""
    clock = ShopClock()
    world = World(clock)
    runs = WorkflowRuns(url, _workflows(world), migrate=True, clock=clock, executor="shop-1")
    guards = {"seat-selection": _allow, "hotel-voucher": _refuse, "insurance-policy": _raise}
    for name, guard in guards.items():
        runner = runs.registry.get(name)
        runs.registry._runners[name] = replace(runner, can_resume=guard, can_rerun=guard)
    shop = Shop(runs, clock, world)
    runs.start()
    runs.journal.add_observer(shop.after_commit)
    return shop


def _allow(_run: RunRecord, _plan: object, _actor: str | None) -> bool:
    return True


def _refuse(_run: RunRecord, _plan: object, _actor: str | None) -> str:
    return "The voucher's deadline has passed: issue a new one."


def _raise(_run: RunRecord, _plan: object, _actor: str | None) -> None:
    raise ConnectionError("the insurer's answer is a secret of the guard")


def seeded_shop(url: str, *, history: int = 600, long_runs: bool = True) -> Shop:
    """Return a shop with a day behind it. ``history``: how many runs of earlier hours; ``long_runs``: 250, 500 and 5,000 steps."""
    shop = make_shop(url)
    _seed_history(shop, history)
    _seed_earlier_today(shop)
    if long_runs:
        _seed_long_runs(shop)
    _seed_hostile(shop)
    _seed_now(shop)
    return shop


_CHECKOUT: Final = [
    ("confirm-booking", 118, EffectClass.IDEMPOTENT),
    ("charge", 612, EffectClass.UNSAFE),
    ("issue-invoice", 340, EffectClass.IDEMPOTENT),
    ("send-confirmation", 71, EffectClass.IDEMPOTENT),
]
_REBOOKING: Final = [("find-seats", 1400, EffectClass.READ), ("rebook", 2200, EffectClass.IDEMPOTENT)]
_POINTS: Final = [("look-up", 250, EffectClass.READ), ("add", 800, EffectClass.IDEMPOTENT)]


def _seed_history(shop: Shop, count: int) -> None:
    """A day of traffic, busier at noon, with an outage in it; before that, a thin week."""
    source = random.Random(1106)
    now = shop.clock.now()
    kinds = [("checkout-finalize", _CHECKOUT), ("flight-rebooking", _REBOOKING), ("loyalty-points", _POINTS)]
    versions = {definition.name: definition.code_version for definition in shop.runs.workflows}
    for number in range(count):
        days = 1 if number % 6 else 7
        hours = (source.random() ** 0.9) * 23 * days + 1
        if source.random() > 0.65 + 0.35 * math.sin(hours / 24 * 2 * math.pi):
            hours = source.random() * 23 * days + 1
        name, template = source.choices(kinds, (6, 2, 3))[0]
        steps = [(label, round(took * source.lognormvariate(0, 0.5)), effect) for label, took, effect in template]
        error: Exception | None = None
        if source.random() < (0.3 if 5 < hours < 6 else 0.015):
            error = ProviderUnavailable("invoicing answers 503 Service Unavailable")
            steps = steps[: source.randrange(1, len(steps) + 1)]
        shop.record(
            name,
            now - timedelta(hours=hours),
            steps,
            error=error,
            state=RunState.CANCELLED if error is None and source.random() < 0.01 else None,
            about=f"bk_{source.randrange(1000, 4000)}",
            tags=(f"market:{source.choice(('ro', 'bg', 'hu', 'de'))}",),
            code_version=versions[name],
            result={"ok": True},
        )
    ids = shop.ids
    began = now - timedelta(hours=2)
    down = ProviderUnavailable("the old ledger is gone")
    ids["unregistered"] = shop.record("legacy-invoicing", began, _CHECKOUT[:3], error=down, about="bk_3001")
    ids["drifted"] = shop.record(
        "checkout-finalize", began, _CHECKOUT[:3], error=down, about="bk_3002", code_version="5c0ffee5c0ff"
    )
    ids["version unknown"] = shop.record("checkout-finalize", began, _CHECKOUT[:3], error=down, about="bk_3003")


def _seed_earlier_today(shop: Shop) -> None:
    ids, desk = shop.ids, shop.runs.desk
    shop.clock.turn_back(hours=1)
    ids["stuck"] = shop.hold("OS 791")
    shop.clock.turn_back(minutes=40)
    ids["succeeded"] = shop.run("checkout-finalize", shop.order(), tags=("market:ro", "order:77"))
    ids["uninvoiced"] = shop.fail_at_invoice(tags=("market:ro",))
    ids["unsure charge"] = shop.fail_at_charge()
    ids["guard allows"] = shop.fail_guarded("seat-selection")
    ids["guard refuses"] = shop.fail_guarded("hotel-voucher")
    ids["guard raises"] = shop.fail_guarded("insurance-policy")
    ids["resume only"] = shop.fail_rebooking()
    ids["retried and parallel"] = shop.run("loyalty-points", "m-2201")
    ids["cancelled by itself"] = shop.run("loyalty-points", "leaves")
    ids["compensated"] = shop.run("supplier-settlement", "lot-9")
    ids["resumed parent"] = shop.fail_at_invoice()
    ids["resumed"] = desk.resume(ids["resumed parent"], actor=OPERATOR, reason="invoicing is back").run_id
    shop.runs.wait(ids["resumed"], WAIT_S)
    ids["rerun"] = desk.rerun(ids["succeeded"], actor=OPERATOR, confirm=True, reason="asked by the guest").run_id
    shop.runs.wait(ids["rerun"], WAIT_S)
    ids["unknown"] = shop.trigger("visa-check", "P-1190", about="bk_3004")
    shop.until(ids["unknown"], lambda run: run.state is RunState.UNKNOWN)
    ids["cancelled"] = shop.trigger("visa-check", "P-1191", about="bk_3005")
    shop.until(ids["cancelled"], lambda run: run.state is RunState.UNKNOWN)
    desk.cancel(ids["cancelled"], actor=OPERATOR, reason="the guest changed plans")
    shop.runs.wait(ids["cancelled"], WAIT_S)
    ids["observed"] = _observe(shop, "nightly-import", 6, fails=True)


def _seed_long_runs(shop: Shop) -> None:
    shop.clock.turn_back(minutes=30)
    shop.ids["250 steps"] = shop.run("inventory-sync", 250, about="hotels")
    shop.ids["500 steps"] = _observe(shop, "partner-feed", 500, fails=True)
    shop.ids["5000 steps"] = _observe(shop, "partner-feed", 5_000, fails=False)


def _observe(shop: Shop, name: str, steps: int, *, fails: bool) -> str:
    """A run that executes elsewhere; the last but one of its steps fails."""
    recorder = shop.runs.begin(name, input={"file": f"{name}.csv", "rows": steps}, correlation_id=f"{name}-{steps}")
    for number in range(1, steps + 1):
        handle = recorder.start_step(f"part-{number % 50}", key=f"{number}")
        shop.clock.spend(0.004)
        if fails and number == steps - 1:
            handle.fail(ProviderUnavailable(f"row {number} cannot be read"))
        else:
            handle.complete({"row": number})
        if number % 1_000 == 0:
            assert recorder.flush(WAIT_S)  # the journal's queue is bounded, and an observer gives up rather than wait
    _ = recorder.fail(ProviderUnavailable("the file is damaged")) if fails else recorder.complete({"rows": steps})
    assert recorder.flush(WAIT_S)
    assert recorder.lost == 0
    return recorder.run_id


def _seed_hostile(shop: Shop) -> None:
    shop.clock.turn_back(minutes=20)
    value = {MARKUP: [LINK, TEMPLATE, BIDI, CONTROL, 10**40, 1e300, None, True, ""], "a b": {"'": '"'}}
    shop.ids["hostile"] = shop.run(
        HOSTILE_NAME, value, about=ATTRIBUTE, tags=(MARKUP, LINK, f"order:{LINK}", BIDI, "a,b")
    )
    recorder = shop.runs.begin(
        f"{MARKUP}{BIDI}{CONTROL}",
        trigger=MARKUP,
        input={"value": MARKUP},
        correlation_id=f"{LINK} {BIDI}",
        tags=[CONTROL, f"url:{LINK}"],
        triggered_by_user_id=MARKUP,
    )
    recorder.start_step(f"{CONTROL}{BIDI}").fail(ValueError(MARKUP))
    recorder.fail(ValueError(f"{MARKUP}\n{CONTROL}"))
    assert recorder.flush(WAIT_S)
    shop.ids["hostile observed"] = recorder.run_id


def _seed_now(shop: Shop) -> None:
    shop.clock.turn_back(minutes=2)
    shop.ids["uninvoiced now"] = shop.fail_at_invoice(tags=("market:de",))
    shop.clock.turn_back()
    shop.ids["running"] = shop.hold("LH 1650")
