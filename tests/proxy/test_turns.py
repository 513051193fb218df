"""Work beside the calls goes on after what nobody expected, and never ends unseen."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from llmctl.config import Config
from llmctl.proxy.app import Gateway
from llmctl.proxy.cells import shared_memory
from llmctl.proxy.turns import take_turns


async def test_a_turn_that_fails_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    turns, went_on = 0, asyncio.Event()

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise KeyError("a bug")
        went_on.set()

    task = asyncio.create_task(take_turns("sweeping", turn, 0.001))
    await asyncio.wait_for(went_on.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "sweeping: a turn failed")


async def test_work_that_ends_with_an_error_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway(Config(tmp_path / "config.toml", tmp_path / "llmctl.db"), shared_memory(1), 0)

    async def work() -> None:
        raise KeyError("a bug")

    gateway._spawn(work())
    await asyncio.sleep(0.01)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("llmctl.proxy.app", logging.ERROR)
    assert record.exc_info is not None
