"""The logins for package indexes: a file of root's in netrc form.

Invariant: a login is for the host that it names. `default`, which would be for every host, is left out.
"""

import netrc
from pathlib import Path

from pusher.wire import Code, Refused


def read_logins(file: Path | None) -> dict[str, tuple[str, str]]:
    """The login and password for each host. Blocking. Raises: Refused(configuration)."""
    if file is None:
        return {}
    try:
        found = netrc.netrc(str(file))
    except OSError as error:
        raise Refused(
            Code.CONFIGURATION,
            f"The credentials {file} cannot be read",
            why=error.strerror or str(error),
            hint="Create the file (netrc form, readable by the agent), or empty `credentials_file`",
        ) from error
    except (netrc.NetrcParseError, UnicodeDecodeError) as error:
        # Not its own words: they may quote a password.
        line = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else "it is not UTF-8"
        raise Refused(
            Code.CONFIGURATION,
            f"The credentials {file} cannot be used",
            why=f"they are not in netrc form ({line})",
        ) from error
    return {
        host: (login, password or "") for host, (login, _, password) in found.hosts.items() if host != "default"
    }
