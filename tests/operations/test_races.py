"""Many at once: one run is made, and everybody is told which."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from workflow_runs.errors import AlreadyResumed


def all_at_once(count, act):
    """Call ``act`` in ``count`` threads that start together; return what each gave or raised."""
    barrier = Barrier(count)

    def one(_number):
        barrier.wait(30)
        try:
            return act()
        except Exception as error:  # noqa: BLE001  # what was raised is what the test is about
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_fifty_resumes_one_makes_a_run_and_the_others_are_told_its_id(shop):
    parent = shop.failed()
    outcomes = all_at_once(50, lambda: shop.desk.resume(parent))
    [made] = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert shop.children(parent) == [made.run_id]
    assert len(refused) == 49
    assert {type(error) for error in refused} == {AlreadyResumed}
    assert {error.details["runId"] for error in refused} == {made.run_id}


def test_the_same_trigger_fifty_times_at_once_makes_one_run(shop):
    outcomes = all_at_once(50, lambda: shop.desk.trigger("checkout", "[1]", idempotency_key="k"))
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert len(shop.audit(outcomes[0].run_id)) == 1


def test_the_same_resume_many_times_at_once_is_one_answer_and_no_refusal(shop):
    parent = shop.failed()
    outcomes = all_at_once(24, lambda: shop.desk.resume(parent, idempotency_key="k"))
    assert set(outcomes) == {outcomes[0]}
    assert shop.children(parent) == [outcomes[0].run_id]


def test_resumes_of_two_failures_of_one_chain_make_one_run(shop):
    first = shop.failed()
    second = shop.fail_again(shop.desk.resume(first).run_id)
    parents = iter([first, second] * 10)
    outcomes = all_at_once(20, lambda: shop.desk.resume(next(parents)))
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {AlreadyResumed}
