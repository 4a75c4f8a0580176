"""Waiting for the next change."""

import asyncio

from agent.host.changes import Changes


async def test_a_change_wakes_all_who_wait_and_none_that_asked_later() -> None:
    changes = Changes()
    first, second = changes.next(), changes.next()
    changes.announce()
    later = changes.next()
    async with asyncio.timeout(5):
        await asyncio.gather(first.wait(), second.wait())
    assert not later.is_set()
    changes.announce()
    assert later.is_set()
