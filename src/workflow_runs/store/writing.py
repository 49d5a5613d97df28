"""The writer: a batch of entries in one transaction, by the shortest way that gives what applying them one by one would give.

Most entries are starts and ends of steps, and starts, changes and ends of runs that nobody disputes. Between two entries of other kinds
these commute, except where they are about the same run or the same attempt; so ``divide`` gathers them into *bulks* in which each
run and each attempt appears once, and a database writes a bulk with few statements. A start and an end of one attempt that meet in a
bulk become one row: this is the only place where they are merged.

When a bulk fails for what an entry holds, the transaction is rolled back and the batch is applied again, entry by entry, each in a
savepoint: the bad entry is refused and its neighbours are written. When the database fails, nothing is written and the caller
repeats the batch.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ..errors import ClaimLost, EntryRejected, Refusal
from ..model.entries import Claim, ClaimRuns, Entry, RunChanged, RunEnded, StartRun, StepEnded, StepStarted
from ..model.records import StepKey
from .applying import EntryApplier, Session, Taken, claim_lost, is_disputed
from .faults import Fault, unavailable

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Bulk:
    """Entries that may be written in any order: each run and each attempt is in it once. Numbers are places in the batch."""

    steps: list[StepStarted | StepEnded] = field(default_factory=list)
    of_steps: list[int] = field(default_factory=list)  # places that the steps came from: more, where two were merged
    starts: list[int] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def divide(entries: Sequence[Entry]) -> Iterator[Bulk | int]:
    """Yield bulks, and the places of entries that have to be applied by themselves, in an order that keeps the batch's meaning."""
    bulks = _Bulks()
    for place, entry in enumerate(entries):
        kind = type(entry)
        if kind is StepEnded or kind is StepStarted:
            # The kind is known; isinstance for the type checker would cost more than all the rest.
            bulks.add_step(place, entry)  # type: ignore[arg-type]
        elif kind is RunEnded:
            bulks.of_run(entry.run_id).ends.append(place)  # type: ignore[union-attr]
        elif kind is RunChanged:
            bulks.of_run(entry.run_id).changes.append(place)  # type: ignore[union-attr]
        elif isinstance(entry, StartRun) and is_undisputed(entry):
            bulks.of_run(entry.run_id).starts.append(place)
        else:
            yield from bulks.levels
            bulks = _Bulks()
            yield place
    yield from bulks.levels


def is_undisputed(entry: StartRun) -> bool:
    """Return whether nothing that others wrote can refuse the start, and nothing but rows of its own kind comes with it."""
    action = entry.request.action
    return not entry.request.seeds and (action is None or not is_disputed(action))


class _Bulks:
    """Bulks one after another: what must not share a bulk with something earlier goes into the next one.

    Steps need no run before them (there is no foreign key, and nothing of a step depends on its run's state), so all but the repeated
    ones go into the first.
    """

    def __init__(self) -> None:
        self.levels: list[Bulk] = []
        self._of_run: dict[str, int] = {}
        self._of_attempt: dict[tuple[str, StepKey, int], tuple[int, int]] = {}

    def of_run(self, run_id: str) -> Bulk:
        level = self._of_run.get(run_id, 0)
        self._of_run[run_id] = level + 1
        return self._level(level)

    def add_step(self, place: int, entry: StepStarted | StepEnded) -> None:
        attempt = (entry.run_id, entry.step, entry.attempt)
        found = self._of_attempt.get(attempt)
        level = 0
        if found is not None:
            level, position = found
            bulk = self.levels[level]
            earlier = bulk.steps[position]
            ends = type(entry) is StepEnded
            if earlier.claim == entry.claim and (not ends or type(earlier) is StepStarted):
                bulk.of_steps.append(place)
                if ends:
                    bulk.steps[position] = entry  # start and end: one row instead of two
                return
            level += 1  # ended twice: the first counts, unless it only said that nobody knows
        bulk = self._level(level)
        self._of_attempt[attempt] = (level, len(bulk.steps))
        bulk.steps.append(entry)
        bulk.of_steps.append(place)

    def _level(self, level: int) -> Bulk:
        while level >= len(self.levels):
            self.levels.append(Bulk())
        return self.levels[level]


class WriterBase(ABC):
    """What the writers of the two databases share; see ``store.base.StoreWriter``."""

    def __init__(self) -> None:
        self._taken: Taken = {}

    # --- what differs -------------------------------------------------------------------------------------------------

    @abstractmethod
    def _session(self) -> Session:
        """Return the session of the connection, connecting if there is none."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[object]:
        """Begin; commit at the end, or roll back when something is raised."""

    @abstractmethod
    def _savepoint(self) -> AbstractContextManager[object]:
        """Keep the transaction usable when something inside is raised, and leave no trace of it."""

    @abstractmethod
    def _attempt(self, entries: Sequence[Entry]) -> list[object]:
        """Apply the batch in one transaction by the short ways; any exception but a refusal in its place undoes all of it."""

    @abstractmethod
    def _fault(self, error: Exception) -> Fault:
        """Say what an exception means."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Drop the connection, whatever state it is in."""

    # --- the contract -------------------------------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry]) -> list[object]:
        """Apply the entries in one transaction and return an outcome for each, in order.

        Raises:
            StoreUnavailable: nothing is known to be written; call again with the same entries.
        """
        if not entries:
            return []
        try:
            self._session()
            try:
                outcomes = self._attempt(entries)
            except Exception as error:
                if self._fault(error) is not Fault.ENTRY:
                    raise
                outcomes = self._one_by_one(entries)
        except Exception as error:
            self._disconnect()
            raise unavailable(self._fault(error)) from error
        except BaseException:
            # Interrupted (Ctrl-C in a thread that commits for others): the connection may be in the middle of anything.
            self._disconnect()
            raise
        if self._taken:
            for entry in entries:
                if isinstance(entry, ClaimRuns):
                    self._taken.pop(entry.claim, None)
        return outcomes

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._disconnect()

    def _one_by_one(self, entries: Sequence[Entry]) -> list[object]:
        outcomes: list[object] = []
        with self._transaction():
            applier = self._applier()
            for entry in entries:
                try:
                    with self._savepoint():
                        outcomes.append(applier.apply(entry))
                except (Refusal, ClaimLost, EntryRejected) as refusal:
                    outcomes.append(refusal)
                except Exception as error:
                    if self._fault(error) is not Fault.ENTRY:
                        raise
                    outcomes.append(_rejected(entry, error))
            self._count_if_possible(applier)
        return outcomes

    def _count_if_possible(self, applier: EntryApplier) -> None:
        """Count what has ended; a row of the rollup that is damaged, and cannot be added to, costs its figures and no run its end."""
        try:
            with self._savepoint():
                applier.count_ended()
        except Exception as error:
            if self._fault(error) is not Fault.ENTRY:
                raise
            _log.warning(
                "runs that ended are missing from the figures: the rollup cannot be added to (%s)", type(error).__name__
            )

    # --- for the short ways -------------------------------------------------------------------------------------------

    def _applier(self) -> EntryApplier:
        return EntryApplier(self._session(), self._taken)

    def _by_itself(self, applier: EntryApplier, entry: Entry) -> object:
        """Apply one entry inside a batch; a refusal is its outcome."""
        try:
            return applier.apply(entry)
        except (Refusal, ClaimLost, EntryRejected) as refusal:
            return refusal


def refuse_steps(entries: Sequence[Entry], bulk: Bulk, lost: set[Claim], outcomes: list[object]) -> None:
    """Refuse, in their places, the steps of a bulk whose claim is lost."""
    for place in bulk.of_steps:
        claim = entries[place].claim  # type: ignore[union-attr]  # a step
        if claim in lost:
            outcomes[place] = claim_lost(claim)


def _rejected(entry: Entry, error: Exception) -> EntryRejected:
    rejected = EntryRejected(f"The database refused a {type(entry).__name__} entry for a value that it holds.")
    rejected.__cause__ = error
    return rejected
