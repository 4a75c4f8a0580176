"""The certificate of a repository's server, as its file is now.

Invariant: a certificate that was renewed counts without a restart. One that cannot be used changes nothing: the
one before goes on, and the log says why.
"""

import ssl
from pathlib import Path

import structlog

from pusher.wire import Code, Refused

_log = structlog.get_logger()


class Certificate:
    """The certificate in a file (PEM), and its key, if that is another file. Making one blocks.

    Raises: Refused, if it cannot be used.
    """

    def __init__(self, file: Path, key: Path | None = None) -> None:
        self._file = file
        self._key = key
        self._stamp = self._seen()
        try:
            self._newest = self._loaded()
        except (OSError, ssl.SSLError) as error:
            raise Refused(
                Code.CONFIGURATION,
                f"The certificate {file} cannot be used",
                why=error.strerror or str(error),
                hint="It must be PEM and readable, with its own key: in the same file, or in `certificate_key`",
            ) from error
        self.context = self._newest
        """What a server offers: at each handshake, the newest certificate."""
        self.context.sni_callback = self._choose  # called also without a name

    def renew(self) -> None:
        """Use what is in the files, if they have changed. Blocking. The log says so, also if it cannot be used."""
        seen = self._seen()
        if seen == self._stamp:
            return
        self._stamp = seen
        try:
            self._newest = self._loaded()
            _log.info("certificate_renewed", file=str(self._file))
        except (OSError, ssl.SSLError) as error:
            # Certificate and key are two files: perhaps only one of them is there yet.
            _log.error("certificate_unusable", file=str(self._file), problem=error.strerror or str(error))

    def _choose(self, connection: ssl.SSLObject, name: str | None, offered: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _loaded(self) -> ssl.SSLContext:
        # Loading into the one in use, and failing half way, would leave a certificate without its key.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._file, self._key)
        return context

    def _seen(self) -> tuple[object, ...]:
        """What changes with the files. Links count by what they lead to."""
        found: list[object] = []
        for path in (self._file, self._key):
            try:
                state = path.stat() if path else None
            except OSError:
                state = None
            found.append(state and (state.st_mtime_ns, state.st_ino, state.st_size))
        return tuple(found)
