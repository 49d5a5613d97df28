"""The query of the list of runs: text in, a ``RunFilter`` and its removable terms out. The grammar is told in docs/search.md.

Text of any kind is read and nothing is ever raised: what is not understood becomes a ``Problem`` that names it, and the rest is read on.
Nothing is silently ignored.

Fields without an index (``_SCANNED``) are looked up by reading run after run, and so is what a query leaves out when nothing else leads:
such a query is bounded to a week unless it says a time itself, and ``scans_since`` says so. Rejected: bounding by the number of runs
read, which nobody could put into words on a page.

Pure: the time, the zone and who asks are given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from ..clock import run_id_millis
from ..model.jsontext import clean
from ..model.records import Choice, RunField, RunFilter, RunKind
from ..model.states import RunState, RunStatus, is_finished, states_of
from .search_text import Part, Token, canonical, read_moment, read_range, split

TEXT_MAX: Final = 4_000  # characters that are read
TERMS_MAX: Final = 20  # a term costs a condition, at worst a subquery for each run
VALUES_MAX: Final = 50  # alternatives in one term
PATH_MAX: Final = 8  # segments of a path into the input
PLACES_MAX: Final = 3  # of them numbers: each doubles the ways to read the path
SCAN: Final = timedelta(days=7)

FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "status": "running, succeeded, failed, cancelled; or more exactly queued, waiting, paused, unknown, lost, ...",
        "workflow": "name of the workflow",
        "key": "business key (correlation id)",
        "tag": "tag, a colon in it included: tag:channel:web",
        "step": "name of the step that failed",
        "error": "text in the error message",
        "group": "failures with this fingerprint",
        "by": "who set the run off; me: yourself",
        "trigger": "what set it off: api, manual, resume, rerun or another",
        "code": "version of the code",
        "parent": "reruns and resumes of the run with this id",
        "since": "how long ago at most (30m, 24h, 7d), or a time",
        "from": "started at this time (2026-01-31, 2026-01-31T08:00, 08:00 today) or later",
        "to": "started before this time",
        "took": "duration: >30s, <2m, 1s..5s",
        "is": "stuck, resume, rerun or root",
        "has": "resume: a failure that was taken up",
        "input.path": "value in the input: input.customer.id:42",
    }
)
VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "status": tuple(dict.fromkeys([*RunStatus, *RunState])),
        "trigger": ("api", "manual", "resume", "rerun"),
        "by": ("me",),
        "since": ("30m", "24h", "7d", "today", "yesterday"),
        "is": ("stuck", "resume", "rerun", "root"),
        "has": ("resume",),
    }
)
_SCANNED: Final = frozenset({RunField.ERROR_TEXT, RunField.CODE_VERSION, RunField.INPUT})

_PLAIN: Final = {
    "workflow": RunField.WORKFLOW_NAME,
    "key": RunField.CORRELATION_ID,
    "tag": RunField.TAG,
    "step": RunField.ERROR_STEP,
    "error": RunField.ERROR_TEXT,
    "group": RunField.FINGERPRINT,
    "by": RunField.TRIGGERED_BY_USER_ID,
    "trigger": RunField.TRIGGER,
    "code": RunField.CODE_VERSION,
    "parent": RunField.PARENT_RUN_ID,
}
# Those that a filter has a field of the same name for, with room for one value.
_SINGLE: Final = frozenset(
    {
        RunField.CORRELATION_ID,
        RunField.FINGERPRINT,
        RunField.TRIGGERED_BY_USER_ID,
        RunField.TRIGGER,
        RunField.PARENT_RUN_ID,
    }
)
# Fields with an index that few enough runs share for the rest to be tested on all of them.
_NARROW: Final = frozenset({RunField.CORRELATION_ID, RunField.PARENT_RUN_ID})
_TRIGGERS: Final = {"resume": "manual.resume", "rerun": "manual.rerun"}
_STUCK: Final = tuple(
    state for state in RunState if not is_finished(state) and state not in {RunState.WAITING, RunState.PAUSED}
)
# What other tools call our fields.
_ALSO_CALLED: Final = {
    "state": "status", "name": "workflow", "user": "by", "actor": "by", "correlation": "key", "id": "key", "label": "tag",
    "fingerprint": "group", "message": "error", "version": "code", "duration": "took", "input": "input.path",
    "after": "from", "before": "to", "until": "to",
}  # fmt: skip
_SEGMENT = re.compile(r"[0-9]{1,6}|[^\W\d][\w-]*")
_BEGINNING = datetime(1970, 1, 8, tzinfo=UTC)  # no run started before; and the calendar has a first day
_SHOWN_MAX = 40  # characters of what was typed that a problem repeats
_NEAR = 0.7  # "order" is not meant to be "code"


@dataclass(frozen=True, slots=True)
class Term:
    """One term, removable. ``text`` is as typed, quotes only where needed; ``field`` is empty for a bare word."""

    text: str
    field: str
    value: str  # several joined by commas
    negated: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What of the text is not understood, as a sentence; ``field`` is empty where it is about no field."""

    message: str
    field: str


@dataclass(frozen=True, slots=True)
class Search:
    """A query, read. With a ``problem``, ``where`` holds what was understood.

    Attributes:
        text: What was read: at most ``TEXT_MAX`` characters.
        scans_since: From when on runs are looked at because the query would scan and says no time; None otherwise.
        run_id: The run id that stands in the query as a bare word.
        bare: The other bare words, looked up as a business key; when no run has it, ``bare_as_error`` is the next question.
    """

    text: str
    terms: tuple[Term, ...]
    where: RunFilter
    problem: Problem | None = None
    scans_since: datetime | None = None
    run_id: str | None = None
    bare: str | None = None

    @property
    def scans(self) -> bool:
        """Whether it looks into texts that no index finds, so that it may take long."""
        fields = {term.field for term in self.terms}
        return self.scans_since is not None or "error" in fields or any(name.startswith("input.") for name in fields)

    def without(self, term: Term) -> str:
        """Return the text without a term."""
        return " ".join(other.text for other in self.terms if other.text != term.text)

    def with_term(self, text: str) -> str:
        """Return the text with one more term, or several; with those it has already it stays as it is."""
        return " ".join(dict.fromkeys([*(term.text for term in self.terms), *map(canonical, split(clean(text)))]))

    def replacing(self, fields: Collection[str], text: str) -> str:
        """Return the text with a term in place of all terms of some fields: a bar of a histogram for ``since``, ``from``, ``to``."""
        kept = tuple(term for term in self.terms if term.field not in fields)
        return replace(self, terms=kept).with_term(text)

    def bare_as_error(self) -> str:
        """Return the text with each bare word as ``error:``, a run id excepted."""
        return " ".join(
            term_text("error", term.value, negated=term.negated)
            if not term.field and term.value != self.run_id
            else term.text
            for term in self.terms
        )


def term_text(field: str, *values: str, negated: bool = False) -> str:
    """Return the text of a term, quoted where needed: what links are made of. Without a field it is a bare word."""
    return canonical(Token(negated, field, tuple(Part(clean(value), quoted=True) for value in values)))


def parse_query(
    text: str, now: datetime, *, me: str | None = None, stuck_after_s: int = 900, zone: tzinfo = UTC
) -> Search:
    """Read a query.

    Args:
        text: Anything.
        now: The time that ages are counted from.
        me: Who ``by:me`` is.
        stuck_after_s: How long after its start a run that is neither waiting nor paused counts as stuck.
        zone: Of times that name none.
    """
    reading = _Reading(now, me, timedelta(seconds=stuck_after_s), zone)
    read = clean(text)
    if len(read) > TEXT_MAX:
        reading.note(f"The query has {len(read):,} characters; {TEXT_MAX:,} are read.", "")
        read = read[:TEXT_MAX]
    tokens = split(read)
    if len(tokens) > TERMS_MAX:
        reading.note(f"The query has {len(tokens):,} terms; {TERMS_MAX} are read.", "")
        tokens = tokens[:TERMS_MAX]
    for token in tokens:
        reading.read(token)
    where, scans_since = reading.result()
    return Search(
        read,
        tuple(Term(canonical(token), token.field, token.value, token.negated) for token in tokens),
        where,
        reading.problem,
        scans_since,
        reading.run_id,
        " ".join(reading.bare) or None,
    )


@dataclass(slots=True)
class _Reading:
    """The conditions of the terms read so far."""

    now: datetime
    me: str | None
    stuck_after: timedelta
    zone: tzinfo
    problem: Problem | None = None
    run_id: str | None = None
    bare: list[str] = field(default_factory=list)
    states: frozenset[RunState] = frozenset(RunState)
    kinds: frozenset[RunKind] = frozenset(RunKind)
    has_resume: frozenset[bool] = frozenset({True, False})
    since: datetime | None = None
    until: datetime | None = None
    took_min: int | None = None
    took_max: int | None = None
    choices: list[Choice] = field(default_factory=list)
    excluded: list[RunFilter] = field(default_factory=list)

    def note(self, message: str, about: str) -> None:
        """Keep the first problem: one sentence under the bar is read, ten are not."""
        self.problem = self.problem or Problem(message, about)

    def read(self, token: Token) -> None:
        """Take up one term."""
        if token.is_open:
            self.note("A quote is not closed.", token.field)
        name, _, path = token.field.partition(".")
        if not token.field:
            self._bare(token)
        elif not token.parts:
            self.note(f"{_shown(token.field)}: needs a value.", token.field)
        elif len(token.parts) > VALUES_MAX:
            self.note(
                f"{_shown(token.field)} has {len(token.parts)} values; at most {VALUES_MAX} stand in one term.", name
            )
        elif name == "input" and path:
            self._input(token, tuple(path.split(".")))
        elif token.field in _PLAIN:
            self._plain(token)
        else:
            self._special(token)

    def _special(self, token: Token) -> None:
        match token.field:
            case "status":
                self._status(token)
            case "since" | "from" | "to":
                self._time(token)
            case "took":
                self._took(token)
            case "is":
                self._is(token)
            case "has":
                self._has(token)
            case _:
                self._unknown(token)

    def _unknown(self, token: Token) -> None:
        name = token.field.lower()
        near = _ALSO_CALLED.get(name) or _nearest(name, FIELDS)
        quoted = canonical(Token(token.negated, "", (Part(f"{token.field}:{token.value}", quoted=True),)))
        more = f"Did you mean {near}?" if near else f"In quotes it is looked for as a text: {_shown(quoted)}"
        self.note(f"There is no field '{_shown(token.field)}'. {more}", token.field)

    # --- fields -------------------------------------------------------------------------------------------------------

    def _bare(self, token: Token) -> None:
        if token.negated:
            self._take(Choice(RunField.CORRELATION_ID, (token.value,)), negated=True)
        elif _is_run_id(token.value):
            self.run_id = self.run_id or token.value
        else:
            self.bare.append(token.value)

    def _plain(self, token: Token) -> None:
        values = tuple(part.text for part in token.parts)
        if token.field == "trigger":
            values = tuple(
                part.text if part.quoted else _TRIGGERS.get(part.text.lower(), part.text) for part in token.parts
            )
        elif token.field == "by":
            mine = [not part.quoted and part.text.lower() == "me" for part in token.parts]
            if self.me is None and any(mine):
                self.note("by:me needs somebody who is signed in.", "by")
                return
            values = tuple(self.me or "" if is_me else part.text for part, is_me in zip(token.parts, mine, strict=True))
        elif token.field == "parent" and not all(map(_is_run_id, values)):
            self.note("parent: takes a run id: wfrn_ and 26 characters.", "parent")
            return
        self._take(Choice(_PLAIN[token.field], values), negated=token.negated)

    def _input(self, token: Token, path: tuple[str, ...]) -> None:
        if not all(map(_SEGMENT.fullmatch, path)) or len(path) > PATH_MAX:
            self.note(
                f"'{_shown(token.field)}' is no path into the input: names and places joined by dots, at most {PATH_MAX}.",
                token.field,
            )
        elif sum(segment.isdigit() for segment in path) > PLACES_MAX:
            self.note(f"A path into the input holds at most {PLACES_MAX} numbers.", token.field)
        else:
            values = tuple(part.text for part in token.parts)
            self._take(Choice(RunField.INPUT, values, path), negated=token.negated)

    def _take(self, choice: Choice, *, negated: bool) -> None:
        if negated:
            self.excluded.append(RunFilter(choices=(choice,)))
        else:
            self.choices.append(choice)

    def _status(self, token: Token) -> None:
        allowed: set[RunState] = set()
        for part in token.parts:
            word = part.text.lower()
            if word in list(RunStatus):
                allowed.update(states_of(RunStatus(word)))
            elif word in list(RunState):
                allowed.add(RunState(word))
            else:
                self._no_word("status", part.text)
                return
        self.states &= frozenset(RunState) - allowed if token.negated else allowed

    def _is(self, token: Token) -> None:
        words = [part.text.lower() for part in token.parts]
        for part, word in zip(token.parts, words, strict=True):
            if word not in VALUES["is"]:
                self._no_word("is", part.text)
                return
        if "stuck" not in words:
            kinds = frozenset(map(RunKind, words))
            self.kinds &= frozenset(RunKind) - kinds if token.negated else kinds
        elif set(words) != {"stuck"}:
            self.note("is:stuck is a term of its own: is:stuck is:resume, not is:stuck,resume.", "is")
        elif token.negated:
            self.excluded.append(RunFilter(states=_STUCK, started_until=self.now - self.stuck_after))
        else:
            self.states &= frozenset(_STUCK)
            self._between(None, self.now - self.stuck_after)

    def _has(self, token: Token) -> None:
        for part in token.parts:
            if part.text.lower() not in VALUES["has"]:
                self._no_word("has", part.text)
                return
        self.has_resume &= {not token.negated}

    def _time(self, token: Token) -> None:
        if len(token.parts) > 1:
            self.note(f"{token.field}: takes one time.", token.field)
            return
        moment = read_moment(token.parts[0].text, self.now, self.zone)
        if moment is None:
            self.note(
                f"'{_shown(token.value)}' is no time: say how long ago (30m, 24h, 7d), 2026-01-31, 2026-01-31T08:00 or 08:00.",
                token.field,
            )
        elif (token.field == "to") is token.negated:
            self._between(moment, None)
        else:
            self._between(None, moment)

    def _between(self, since: datetime | None, until: datetime | None) -> None:
        if since is not None:
            self.since = max(since, self.since or since)
        if until is not None:
            self.until = min(until, self.until or until)

    def _took(self, token: Token) -> None:
        bounds = read_range(token.parts[0].text) if len(token.parts) == 1 else None
        if bounds is None:
            self.note(f"'{_shown(token.value)}' is no range of durations: say >30s, <2m or 1s..5s.", "took")
            return
        shortest, longest = bounds
        if token.negated:
            self.excluded.append(RunFilter(duration_ms_min=shortest, duration_ms_max=longest))
            return
        if shortest is not None:
            self.took_min = max(shortest, self.took_min or 0)
        if longest is not None:
            self.took_max = longest if self.took_max is None else min(longest, self.took_max)

    def _no_word(self, name: str, word: str) -> None:
        near = _nearest(word.lower(), VALUES[name])
        more = f"Did you mean {near}?" if near else f"Known are {', '.join(VALUES[name])}."
        self.note(f"{name}: knows no '{_shown(word)}'. {more}", name)

    # --- together -----------------------------------------------------------------------------------------------------

    def result(self) -> tuple[RunFilter, datetime | None]:
        """Return the filter, and from when on it scans."""
        if self.bare:
            self._take(Choice(RunField.CORRELATION_ID, (" ".join(self.bare),)), negated=False)
        if not (self.states and self.kinds and self.has_resume):
            return RunFilter(statuses=(RunStatus.RUNNING,), states=(RunState.SUCCEEDED,)), None  # no run at all
        statuses, states = _states(self.states)
        where = RunFilter(
            statuses=statuses,
            states=states,
            kinds=() if len(self.kinds) == len(RunKind) else tuple(kind for kind in RunKind if kind in self.kinds),
            has_resume=next(iter(self.has_resume)) if len(self.has_resume) == 1 else None,
            started_since=self.since,
            started_until=self.until,
            duration_ms_min=self.took_min,
            duration_ms_max=self.took_max,
            excluded=tuple(dict.fromkeys(self.excluded)),
        )
        where = _chosen(where, self.choices)
        if self.since is not None or not self._scans(where):
            return where, None
        scans_since = max(_BEGINNING, min(self.now, self.until or self.now)) - SCAN
        return replace(where, started_since=scans_since), scans_since

    def _scans(self, where: RunFilter) -> bool:
        """Return whether runs without number may have to be read to find a few."""
        fields = {choice.field for choice in self.choices}
        if fields & _NARROW:
            return False
        everywhere = [*self.choices, *(choice for other in self.excluded for choice in other.choices)]
        if any(choice.field in _SCANNED for choice in everywhere):
            return True
        is_led = (
            fields
            or RunState.SUCCEEDED not in self.states
            or RunKind.ROOT not in self.kinds
            or where.has_resume
            or self.took_min is not None
            or self.took_max is not None
        )
        return bool(self.excluded or where.has_resume is False) and not is_led


def _states(allowed: frozenset[RunState]) -> tuple[tuple[RunStatus, ...], tuple[RunState, ...]]:
    """Return what to ask for: statuses if that says it all, as the figures of statuses are at hand."""
    if len(allowed) == len(RunState):
        return (), ()
    statuses = tuple(status for status in RunStatus if allowed.issuperset(states_of(status)))
    if sum(len(states_of(status)) for status in statuses) == len(allowed):
        return statuses, ()
    return (), tuple(state for state in RunState if state in allowed)


def _chosen(where: RunFilter, choices: Iterable[Choice]) -> RunFilter:
    """Return the filter with the choices, each in a field of its own where there is one and it is free."""
    for choice in choices:
        values = tuple(dict.fromkeys(choice.values))
        name = str(choice.field)
        if choice.field is RunField.WORKFLOW_NAME and not where.workflow_names:
            where = replace(where, workflow_names=values)
        elif choice.field is RunField.TAG and len(values) == 1:
            where = replace(where, tags=(*where.tags, *values))
        elif choice.field in _SINGLE and len(values) == 1 and getattr(where, name) is None:
            where = replace(where, **{name: values[0]})  # type: ignore[arg-type]  # fields of this name hold a text
        else:
            where = replace(where, choices=(*where.choices, replace(choice, values=values)))
    return where


def _is_run_id(text: str) -> bool:
    try:
        run_id_millis(text)
    except ValueError:
        return False
    return True


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(word[:_SHOWN_MAX], list(known), n=1, cutoff=_NEAR)
    return near[0] if near else None


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"
