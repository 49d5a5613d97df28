"""For users: does this workflow survive a crash before and after each of its steps, and does it resume from each of them?

The workflow's own functions are called, in child processes (``processes``): give them a world they may act on as often as they like. What
belongs to one run of the test (a file, a port) is best made by the fixture and read in the step, not opened when the module is loaded.
"""

from __future__ import annotations

import json
import operator
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..app import WorkflowRuns
from ..authoring import Workflow
from ..errors import Fatal, Refusal
from ..model.states import REPEATABLE_EFFECTS, RunState
from .effects import EffectLedger
from .lives import World, settled
from .points import Moment, Point
from .scenarios import Toll, judge_effects, repeated

_RUN: Final = frozenset({Moment.ACCEPTED, Moment.ENDING, Moment.ENDED})
EVERYWHERE: Final = frozenset(Moment)

Compare = Callable[[Any, Any], bool]


@dataclass(slots=True)
class CrashReport:
    """What became of a workflow that was killed at each of ``points``.

    Attributes:
        points: Where it was killed, as text, in the order of a run.
        repeated: Steps (or undoings) that were done twice, cut off between deed and record, each with its effect class. That window no
            journal closes: the outside system has to know the effect key (``current_step().effect_key``), or ``verify=`` has to ask it.
        waiting: Points after which the run waits for a person, since nobody knows how an ``unsafe`` step ended: it has no ``verify=``, or
            that could not tell.
    """

    points: list[str] = field(default_factory=list)
    repeated: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A sentence for the log."""
        twice = ", ".join(f"{label} ({effect})" for label, effect in self.repeated.items())
        return (
            f"killed at {len(self.points)} points"
            + (f"; repeated: {twice}" if twice else "")
            + (f"; left to a person: {'; '.join(self.waiting)}" if self.waiting else "")
        )


@dataclass(slots=True)
class ResumeReport:
    """What became of a workflow whose steps were made to fail, each in its turn.

    Attributes:
        resumed: Steps from which it resumed to the same result.
        handled: Steps whose failure the workflow itself dealt with, so that there was nothing to resume.
        compensated: Steps whose failure had the run undone, which ends it for good.
    """

    resumed: list[str] = field(default_factory=list)
    handled: list[str] = field(default_factory=list)
    compensated: list[str] = field(default_factory=list)


def prove_survives_crashes(
    workflow: Workflow,
    input: Any = None,
    *,
    workflows: Sequence[Workflow] = (),
    moments: frozenset[Moment] = EVERYWHERE,
    ends: str = "succeeded",
    same: Compare = operator.eq,
    folder: Path | None = None,
    url: str | None = None,
    timeout_s: float = 60.0,
) -> CrashReport:
    """Run a workflow once undisturbed; then, for each point that it passed, kill its process there, restart it, and look.

    Held: the run exists if its caller was told of it; it ends as the undisturbed one did, with the same result; no step that was on
    record as done is done again; no step that must not be repeated is done twice.

    Args:
        workflow: The workflow.
        input: Its input.
        workflows: Others that it needs.
        moments: Where to kill: all of ``Moment``, or fewer of them to be quicker. A kill costs about a tenth of a second, and the time the
            workflow itself takes.
        ends: The state in which the undisturbed run is to end.
        same: Compares two results (JSON values); give one if they hold times or ids.
        folder: For the database and the ledger. Default: a temporary one.
        url: A database to use instead of a SQLite file; it may have the schema already.
        timeout_s: Of each process.

    Raises:
        AssertionError: says which step was treated wrongly, and at which point.
        ChildFailed: a process raised, ended by itself, or took longer than ``timeout_s``.
    """
    with _folder(folder) as path:
        world = _world(path, url, (workflow, *workflows), timeout_s)
        play = _play(workflow, input)
        undisturbed = _undisturbed(world, play, ends)
        report, wrong = CrashReport(), list[str]()
        for point in dict.fromkeys(Point(*passed) for passed in undisturbed["points"]):
            if point.moment not in moments:
                continue
            if not world.live(play, str(point), at_point=point).killed:
                wrong.append(
                    f"the point '{point}' was not reached a second time: does the workflow decide by something that is not recorded?"
                )
                continue
            report.points.append(str(point))
            recovered = world.live(play, str(point), again=True).value
            texts = _of_crash(report, point, undisturbed["after"][-1], recovered, same, world.ledger)
            wrong += [f"killed {_at(point)}: {text}" for text in texts]
    _check(workflow, wrong)
    return report


def _at(point: Point) -> str:
    return f"{point}" if point.step else f"when the run was {point}"


def _of_crash(
    report: CrashReport,
    point: Point,
    undisturbed: dict[str, Any],
    recovered: dict[str, Any],
    same: Compare,
    ledger: EffectLedger,
) -> Iterator[str]:
    if not recovered["after"]:
        yield "the run is lost"
        return
    if len(recovered["after"]) > 1:
        yield f"one request made {len(recovered['after'])} runs"
    run = recovered["after"][-1]
    effects = ledger.all(run["id"])
    classes = {label: effect_class for label, effect_class, *_ in run["steps"]}
    yield from judge_effects(Toll(), recovered, effects)
    for label in repeated(effects, recovered["after"]):
        report.repeated[label] = classes.get(label.removeprefix("undoing "), "")
    if run["journal"]["state"] == RunState.UNKNOWN:
        open_steps = [(label, effect) for label, effect, *attempts in run["steps"] if attempts[-1][1] == "unknown"]
        report.waiting.append(str(point))
        if not open_steps or any(effect in REPEATABLE_EFFECTS for _, effect in open_steps):
            yield f"the run waits for a person, though it need not: {open_steps}"
    else:
        yield from _of_end(undisturbed["journal"], run["journal"], same)


def _of_end(undisturbed: dict[str, Any], run: dict[str, Any], same: Compare) -> Iterator[str]:
    if run["state"] != undisturbed["state"]:
        yield f"the run ended as {run['state']}, undisturbed as {undisturbed['state']}; its error: {run['error']}"
    elif not same(_value(undisturbed["result"]), _value(run["result"])):
        yield f"the result is {run['result']}, undisturbed {undisturbed['result']}"
    steps, expected = ([step["label"] for step in journal["steps"]] for journal in (run, undisturbed))
    if len(steps) != len(expected):
        yield f"the run has the steps {', '.join(steps)}; undisturbed {', '.join(expected)}"


def prove_resumes_from_each_step(
    workflow: Workflow,
    input: Any = None,
    *,
    workflows: Sequence[Workflow] = (),
    same: Compare = operator.eq,
    folder: Path | None = None,
    url: str | None = None,
    timeout_s: float = 60.0,
) -> ResumeReport:
    """Run a workflow once undisturbed; then, for each of its steps, make that step fail (``Fatal``, before its function is called), resume.

    Held: the resume is not refused, ends with the same result, and executes no step again that the failed run had done.

    Args and Raises: as ``prove_survives_crashes``.
    """
    with _folder(folder) as path:
        world = _world(path, url, (workflow, *workflows), timeout_s)
        play = _play(workflow, input)
        undisturbed = _undisturbed(world, play, "succeeded")
        report, wrong = ResumeReport(), list[str]()
        for label in dict.fromkeys(
            label for moment, label, _, undoing in undisturbed["points"] if label and not undoing
        ):
            texts = _of_resume(report, world, workflow, input, label, undisturbed["after"][-1], same)
            wrong += [f"step {label!r} was made to fail: {text}" for text in texts]
    _check(workflow, wrong)
    return report


def _of_resume(
    report: ResumeReport,
    world: World,
    workflow: Workflow,
    input: Any,
    label: str,
    undisturbed: dict[str, Any],
    same: Compare,
) -> Iterator[str]:
    key = f"resume {label}"

    def play(app: WorkflowRuns, key: str, told: Callable[[str], None]) -> None:
        failed = app.trigger(workflow, input, correlation_id=key, idempotency_key=key)
        if settled(app, failed, world.timeout_s).state is RunState.FAILED:
            try:
                resumed = app.desk.resume(failed, idempotency_key=key).run_id
            except Refusal as refusal:
                told(str(refusal))
            else:
                settled(app, resumed, world.timeout_s)

    def fail() -> None:
        raise Fatal(f"step {label} was made to fail, to be resumed")

    ended = world.live(play, key, at_point=Point(Moment.BEFORE, label, 1), deed=fail)
    failed, *resumed = ended.value["after"]
    state = failed["journal"]["state"]
    if ended.said:
        yield f"the resume was refused: {ended.said[0]}"
    elif resumed:
        done = {step for step, _, *attempts in failed["steps"] if attempts[-1][1] == "succeeded"}
        again = [effect.step for effect in world.ledger.all(resumed[-1]["id"]) if effect.step in done]
        for step in dict.fromkeys(again):
            yield f"the resume executed step {step!r} again, which the failed run had done"
        yield from _of_end(undisturbed["journal"], resumed[-1]["journal"], same)
        report.resumed.append(label)
    elif state == RunState.SUCCEEDED:
        report.handled.append(label)
    elif state == RunState.COMPENSATED:
        report.compensated.append(label)
    else:
        yield f"the run ended as {state}, and cannot be resumed; its error: {failed['journal']['error']}"


# --- what the two share -----------------------------------------------------------------------------------------------


def _folder(folder: Path | None) -> AbstractContextManager[Any]:
    return tempfile.TemporaryDirectory(prefix="workflow-runs-") if folder is None else nullcontext(folder)


def _world(folder: Any, url: str | None, workflows: tuple[Workflow, ...], timeout_s: float) -> World:
    path = Path(tempfile.mkdtemp(prefix=f"{workflows[0].name.replace('/', '_')[:40]}-", dir=folder))
    world = World(
        url or f"sqlite:///{path / 'runs.db'}", workflows, EffectLedger(path / "effects"), timeout_s=timeout_s
    )
    world.prepare()
    return world


def _play(workflow: Workflow, input: Any) -> Callable[[WorkflowRuns, str, Callable[[str], None]], None]:
    def play(app: WorkflowRuns, key: str, told: Callable[[str], None]) -> None:
        run_id = app.trigger(workflow, input, correlation_id=key, idempotency_key=key)
        told(run_id)
        settled(app, run_id)

    return play


def _undisturbed(world: World, play: Any, ends: str) -> dict[str, Any]:
    value: dict[str, Any] = world.live(play, "undisturbed").value
    found = value["after"][-1]["journal"]
    assert found["state"] == ends, f"undisturbed, the run ended as {found['state']} and not as {ends}: {found['error']}"
    return value


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _check(workflow: Workflow, wrong: list[str]) -> None:
    assert not wrong, "\n".join([f"workflow {workflow.name!r} does not hold:", *wrong])
