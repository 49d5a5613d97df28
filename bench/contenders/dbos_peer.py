"""DBOS, as its documentation shows it: a decorated function called directly, its defaults for everything that is not noise on a console."""

from __future__ import annotations

from dbos import DBOS, DBOSConfig

from bench.worker import PAYLOAD, STEPS


@DBOS.step()
async def answer_async(number: int) -> str:  # noqa: ARG001  # a step has an argument
    """Do nothing, give 200 bytes."""
    return PAYLOAD


@DBOS.step()
def answer_sync(number: int) -> str:  # noqa: ARG001  # as above
    """Do nothing, give 200 bytes."""
    return PAYLOAD


@DBOS.workflow()
async def five_steps_async(text: str) -> str:
    """Call five steps."""
    for number in range(STEPS):
        await answer_async(number)
    return text


@DBOS.workflow()
def five_steps_sync(text: str) -> str:
    """Call five steps."""
    for number in range(STEPS):
        answer_sync(number)
    return text


def launch(url: str) -> None:
    """Begin, with the tables it needs."""
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
