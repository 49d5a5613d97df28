"""Plan tokens: what they are good for, for how long, and that nobody makes one."""

import base64
import hmac
import json
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from workflow_runs.admin.pages.tokens import PlanTokens, TokenBasis, TokenCheck, TokenState
from workflow_runs.clock import Clock
from workflow_runs.errors import ConfigurationError

SECRET = bytes(range(32))
BASIS = TokenBasis(
    user="ada",
    action="resume",
    run_id="wfrn_01m81srpafe07vg00hcm7rdwd5",
    from_step=None,
    plan_hash="0" * 32,
    guard="allowed",
    executed=("charge", "notify[order-7]#2"),
    kept=3,
)


class Watch(Clock):
    """A clock that is set by hand."""

    millis = 1_800_000_000_000

    def now_millis(self) -> int:
        return self.millis


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def tokens(watch):
    return PlanTokens(SECRET, watch)


def state(tokens, token, basis=BASIS):
    return tokens.check(token, basis).state


def test_a_token_is_good_for_what_it_was_issued_for_in_every_process_with_the_secret(tokens, watch):
    token = tokens.issue(BASIS)
    assert tokens.check(token, BASIS) == TokenCheck(TokenState.GOOD, BASIS)
    assert state(PlanTokens(SECRET, watch), token) is TokenState.GOOD
    assert state(PlanTokens(bytes(32), watch), token) is TokenState.FORGED


def test_a_token_goes_into_a_form_and_a_header_as_it_is(tokens):
    odd = replace(BASIS, user="<ädä \"'>", executed=("<script>\u202e\x00\ud800",))
    token = tokens.issue(odd)
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert tokens.check(token, odd) == TokenCheck(TokenState.GOOD, odd)


@pytest.mark.parametrize(
    ("passed_ms", "expected"),
    [
        (0, TokenState.GOOD),
        (300_000, TokenState.GOOD),
        (300_001, TokenState.EXPIRED),
        (10**12, TokenState.EXPIRED),
        (-60_000, TokenState.GOOD),  # issued by a process whose clock is ahead
        (-60_001, TokenState.EXPIRED),
    ],
)
def test_a_token_is_good_for_five_minutes(tokens, watch, passed_ms, expected):
    token = tokens.issue(BASIS)
    watch.millis += passed_ms
    assert state(tokens, token) is expected


@pytest.mark.parametrize(
    "change",
    [
        {"plan_hash": "1" * 32},
        {"plan_hash": None},
        {"guard": "silent"},
        {"from_step": "charge"},
        {"executed": ("charge",)},
        {"kept": 2},
    ],
)
def test_a_token_of_another_plan_says_what_was_seen(tokens, watch, change):
    token = tokens.issue(BASIS)
    assert tokens.check(token, replace(BASIS, **change)) == TokenCheck(TokenState.CHANGED, BASIS)
    watch.millis += 10**9  # what changed is worth more to know than how long ago it was
    assert state(tokens, token, replace(BASIS, **change)) is TokenState.CHANGED


@pytest.mark.parametrize(
    "change",
    [{"user": "eve"}, {"user": None}, {"user": ""}, {"action": "rerun"}, {"run_id": "wfrn_01m81srpafe07vg00hcm7rdwd6"}],
)
def test_a_token_of_somebody_else_or_for_something_else_is_forged(tokens, change):
    assert tokens.check(tokens.issue(BASIS), replace(BASIS, **change)) == TokenCheck(TokenState.FORGED)


def test_no_letter_of_a_token_can_be_changed(tokens):
    token = tokens.issue(BASIS)
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        assert state(tokens, token[:place] + other + token[place + 1 :]) is TokenState.FORGED
    for cut in (token[:-1], token[1:], token + "A", token + "=", token + ".", f"{token}\n", f" {token}"):
        assert state(tokens, cut) is TokenState.FORGED


@pytest.mark.parametrize("token", ["", ".", "a.b", "é.é", "\ud800", "x" * 200_000, "." * 1000])
def test_what_is_no_token_is_forged_and_raises_nothing(tokens, token):
    assert state(tokens, token) is TokenState.FORGED


@given(token=st.text())
def test_no_text_is_a_token(token):
    assert state(PlanTokens(SECRET, Watch()), token) is TokenState.FORGED


def test_a_signature_does_not_fit_what_a_stranger_writes(tokens):
    text, _, signature = tokens.issue(BASIS).partition(".")
    claims = json.loads(base64.urlsafe_b64decode(text + "=="))
    claims[0] += 10**9
    mine = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    assert state(tokens, f"{mine}.{signature}") is TokenState.FORGED


def test_what_the_secret_signs_for_another_purpose_is_no_token(tokens):
    text = tokens.issue(BASIS).partition(".")[0]
    signature = base64.urlsafe_b64encode(hmac.digest(SECRET, text.encode(), "sha256")).rstrip(b"=").decode()
    assert state(tokens, f"{text}.{signature}") is TokenState.FORGED


def test_a_plan_of_any_size_makes_a_token_that_fits_a_form(tokens):
    vast = replace(BASIS, executed=tuple(f"\x01{number}" * 200 for number in range(10_000)))
    token = tokens.issue(vast)
    assert len(token) < 40_000
    assert state(tokens, token, vast) is TokenState.GOOD
    seen = tokens.check(token, vast).seen
    assert (len(seen.executed), {len(label) for label in seen.executed}) == (50, {60})
    # What was cut is covered by the plan's hash, which the token holds as well.
    assert state(tokens, token, replace(vast, plan_hash="1" * 32)) is TokenState.CHANGED


def test_a_short_secret_is_refused_where_the_pages_are_put_together(watch):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        PlanTokens(b"secret", watch)
