"""Reading a channel: its document from the first mirror whose word can be used, and its brake.

Invariant: mirrors are asked in an order of chance, so that one that is behind is not the only one that is heard. A
document that is refused is nobody's word: the next mirror is asked.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from agent.core.channel import Mark, TrustedChannel
from agent.deploy.subscribed import Subscribed
from agent.host.bundle.signatures import TrustFiles
from agent.host.channel.mirror import Answer, Mirror, Unreachable
from agent.host.channel.signed import read_channel
from agent.host.net.outward import LONGEST_S
from pusher.wire import Code, Problem, Refused, format_timestamp
from pusher.wire.channel import CHANNEL_BYTES, brake_name, channel_name

_SKEW_MS = 5 * 60 * 1000


class Verify(Protocol):
    """Reads a signed document, as `agent.host.channel.signed.read_channel`."""

    def __call__(self, raw: bytes, *, files: TrustFiles) -> TrustedChannel: ...


class ChannelReader:
    """Reads one channel. `shuffle` puts the mirrors into the order in which they are asked; `now` in ms since
    1970.
    """

    def __init__(
        self,
        app: str,
        channel: str,
        *,
        mirrors: Sequence[Mirror],
        files: TrustFiles,
        subscribed: Subscribed,
        now: Callable[[], int],
        shuffle: Callable[[list[Mirror]], None],
        verify: Verify = read_channel,
    ) -> None:
        self._app = app
        self._channel = channel
        self._mirrors = mirrors
        self._files = files
        self._subscribed = subscribed
        self._now = now
        self._shuffle = shuffle
        self._verify = verify
        self._raw = b""
        """The object that was accepted last; `_tags` are the names that mirrors have for it."""
        self._tags: dict[str, str] = {}
        self._silent: set[str] = set()
        self._left_alone: dict[str, int] = {}
        """Until when mirrors have asked to be left alone (ms)."""
        self.mirror = ""
        """The mirror that answered last."""

    def in_turn(self) -> list[Mirror]:
        """The mirrors, in the order in which they are asked now: last those that have not answered since the
        channel was read last, for each may cost the time that a connection is waited for. One that asks to be left
        alone is, as long as there is another.
        """
        now = self._now()
        # A clock that was set back must not make it wait for longer than any mirror may ask.
        most = now + int(LONGEST_S * 1000)
        willing = [one for one in self._mirrors if not now < self._left_alone.get(one.address, 0) <= most]
        order = willing or list(self._mirrors)
        self._shuffle(order)
        return sorted(order, key=lambda one: one.address in self._silent)

    async def read(self, last: TrustedChannel | None) -> tuple[TrustedChannel, Mark]:
        """The document that counts, and its mark. `last` is the one that counted before, if any.

        Raises: Refused, if mirrors answer and none has a document that can be used; Unreachable, Failed.
        """
        refusal: Problem | None = None
        unreachable: Unreachable | None = None
        self._silent.clear()
        for mirror in self.in_turn():
            tag = self._tags.get(mirror.address, "") if last else ""
            try:
                answer = await mirror.read(channel_name(self._app, self._channel), most=CHANNEL_BYTES, tag=tag)
                self.mirror = mirror.address
                if last is not None and (answer is None or answer.content == self._raw):
                    self._remember(mirror, answer)
                    return last, await self._subscribed.accept(last, channel=self._channel)
                if answer is None:
                    raise Unreachable(f"{mirror.address} says that nothing has changed, and was not asked that")
                trusted, mark = await self._accepted(answer)
                self._tags, self._raw = {}, answer.content
                self._remember(mirror, answer)
                return trusted, mark
            except Unreachable as problem:
                self._silent.add(mirror.address)
                if problem.retry_after_s:
                    self._left_alone[mirror.address] = self._now() + int(problem.retry_after_s * 1000)
                # The whole pause is that of the one that asks for the least.
                if unreachable is None or problem.retry_after_s < unreachable.retry_after_s:
                    unreachable = problem
            except Problem as problem:
                if problem.code in (Code.DISK_FULL, Code.DISK_ERROR):
                    raise
                refusal = problem
        raise refusal or unreachable or Unreachable("No mirror is named")

    async def verify(self) -> None:
        """Verify the signature of the document once more: its key may have ended. Raises: Refused, Failed."""
        await asyncio.to_thread(self._verify, self._raw, files=self._files)

    async def braked(self) -> bool:
        """Whether any mirror has the brake. Raises: Unreachable, if none of them answers."""
        # At the same time: the word of each counts, and one that is gone must not keep the others waiting.
        asked = [self._has_brake(one) for one in self._mirrors]
        answers = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        if True in answers:
            return True
        problems = [one for one in answers if isinstance(one, Problem)]
        if problems and len(problems) == len(answers):
            raise problems[-1]
        return False

    async def close(self) -> None:
        """Let go of all connections until the next question."""
        for mirror in self._mirrors:
            await mirror.close()

    async def _has_brake(self, mirror: Mirror) -> bool | Problem:
        try:
            return await mirror.exists(brake_name(self._app, self._channel))
        except Problem as problem:
            self._silent.add(mirror.address)
            return problem

    async def _accepted(self, answer: Answer) -> tuple[TrustedChannel, Mark]:
        trusted = await asyncio.to_thread(self._verify, answer.content, files=self._files)
        try:
            return trusted, await self._subscribed.accept(trusted, channel=self._channel)
        except Refused as refusal:
            now = self._now()
            if refusal.code is Code.FROM_THE_FUTURE and answer.date and abs(answer.date - now) > _SKEW_MS:
                # Named for people. It is not signed, so nothing follows from it.
                refusal.why += f", and the repository's server says {format_timestamp(answer.date)}"
            raise

    def _remember(self, mirror: Mirror, answer: Answer | None) -> None:
        if answer is not None:
            self._tags[mirror.address] = answer.tag
