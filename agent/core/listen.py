"""Listen addresses: where an app, or a server of ours, accepts connections."""

import ipaddress
import re


def parse_listen(address: str) -> tuple[str, int] | str:
    """`host:port` or `[v6]:port` as (host, port); `unix:/path` as the path. Raises: ValueError."""
    if address.startswith("unix:/"):
        return address.removeprefix("unix:")
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", address)
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError('an address like "0.0.0.0:8000", "[::]:8000" or "unix:/run/app.sock" is needed')
    host = match[1] or match[2]
    ipaddress.ip_address(host)
    return host, int(match[3])


def collide(one: tuple[str, int] | str, other: tuple[str, int] | str) -> bool:
    """Whether two sockets cannot listen at these addresses: the second one would find its own occupied."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    hosts = {ipaddress.ip_address(one[0]), ipaddress.ip_address(other[0])}
    # "::" occupies the port of IPv4 as well (ipv6(7), bindv6only).
    every = any(str(host) == "::" for host in hosts)
    some = any(host.is_unspecified for host in hosts) and len({host.version for host in hosts}) == 1
    return one[1] == other[1] and (len(hosts) == 1 or every or some)
