"""Asynchronous work in a loop of its own, also where there can be none."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from lit_fed.backbones.endpoint.own_loop import run_in_own_loop


async def three() -> int:
    await asyncio.sleep(0)
    return 3


def test_where_no_loop_can_be_made_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a process has opened as many files as it may."""

    def no_more(runner: object) -> NoReturn:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio.Runner, "__enter__", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        run_in_own_loop(three)
    monkeypatch.undo()
    assert run_in_own_loop(three) == 3
