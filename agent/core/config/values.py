"""What a value of a configuration file may be, and what to write instead of one that it may not be."""

import ipaddress
import re
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from agent.core.layout import is_release_id
from agent.core.listen import parse_listen
from agent.core.process_names import NAME
from agent.core.pythons import VERSION
from agent.core.window import parse_window
from pusher.wire import WireError, check_path, split_command
from pusher.wire.channel import check_channel

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Seconds = Annotated[float, Field(ge=0, le=86_400, strict=False)]
HttpStatus = Annotated[int, Field(ge=100, le=599)]
NotEmpty = Annotated[str, Field(min_length=1)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]  # RFC 9110, 5.6.2: token
HeaderValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=4_096)]
ProcessName = Annotated[str, Field(pattern=NAME.pattern)]
LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
IndexName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError("an absolute path is needed")
    return path


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


def _optional_path(path: str) -> str:
    return path and _absolute(path)


OptionalPath = Annotated[str, AfterValidator(_optional_path)]


def _relative(path: str) -> str:
    try:
        return check_path(path)
    except WireError as error:
        raise ValueError(str(error)) from error


SharedPath = Annotated[str, AfterValidator(_relative)]


def _url_path(path: str) -> str:
    if not re.fullmatch(r"/\S*", path):
        raise ValueError('a path like "/health", without a host and without blanks, is needed')
    return path


UrlPath = Annotated[str, AfterValidator(_url_path)]


def _address(address: str) -> str:
    parse_listen(address)
    return address


ListenAddress = Annotated[str, AfterValidator(_address)]


def _command(command: str) -> str:
    """A command that can be split into words, or nothing."""
    try:
        words = split_command(command) if command else ()
    except WireError as error:
        raise ValueError(str(error)) from error
    if any(_CONTROL.search(word) for word in words):
        raise ValueError("a command cannot hold line breaks or other control characters")
    return command


Command = Annotated[str, AfterValidator(_command)]


def _python(setting: str) -> str:
    if setting.startswith("/"):
        return _absolute(setting)
    if not setting or VERSION.fullmatch(setting):
        return setting
    raise ValueError('a version like "3.13", or the absolute path of an interpreter, is needed')


PythonSetting = Annotated[str, AfterValidator(_python)]


def _release(name: str) -> str:
    if not is_release_id(name):
        raise ValueError('the id of a release, such as "20261123044011Z", is needed')
    return name


ReleaseId = Annotated[str, AfterValidator(_release)]


def _optional_time(text: str) -> str:
    try:
        if text and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError(text)
    except ValueError as error:
        raise ValueError('a time with its zone, such as "2026-11-27T13:00:00Z", is needed') from error
    return text


OptionalTime = Annotated[str, AfterValidator(_optional_time)]


def _window(text: str) -> str:
    parse_window(text)
    return text


Window = Annotated[str, AfterValidator(_window)]


def _index_url(address: str) -> str:
    try:
        urlsplit(address)
    except ValueError as error:
        raise ValueError(f'an address like "https://packages.example.com/simple" is needed: {error}') from error
    return address


IndexUrl = Annotated[str, AfterValidator(_index_url)]


def _has_place(address: str) -> bool:
    """Whether its port is one that there can be, and what stands in brackets an IP address. Both may be absent."""
    try:
        parts = urlsplit(address)
        if "[" in parts.netloc:
            ipaddress.ip_address((parts.hostname or "").partition("%")[0])
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _repository(address: str) -> str:
    known = re.fullmatch(
        r"file:///\S*|https?://[^/\s@]+(/\S*)?"
        r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?",
        address,
    )
    if not known or "?" in address or "#" in address or "/../" in f"{address}/" or not _has_place(address):
        raise ValueError(
            'an address like "https://deploy.example.com/repo", "s3://bucket/repo" or "file:///srv/repo" is needed'
        )
    return address.rstrip("/")


Repository = Annotated[str, AfterValidator(_repository)]


def _channel(name: str) -> str:
    try:
        return check_channel(name)
    except WireError as error:
        raise ValueError(str(error)) from error


Channel = Annotated[str, AfterValidator(_channel)]


def _is_nats(address: str) -> bool:
    return bool(re.fullmatch(r"(?:nats|tls)://(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", address))


def _bell_servers(address: str) -> str:
    servers = [one.strip() for one in address.split(",")]
    if address not in ("", "repository") and not all(map(_is_nats, servers)):
        raise ValueError(
            '"repository", "" or servers like "tls://n1.example.com:4222,tls://n2.example.com" are needed'
        )
    return ",".join(servers)


BellServers = Annotated[str, AfterValidator(_bell_servers)]


def _webhook(address: str) -> str:
    if address and not re.fullmatch(r"https?://[^/\s@?#]+(?:[/?]\S*)?", address):
        raise ValueError('an address like "https://hooks.example.com/services/..." is needed, without a login')
    return address


Webhook = Annotated[str, AfterValidator(_webhook)]


def _email(address: str) -> str:
    if address and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]*(?:@[A-Za-z0-9.-]+)?", address):
        raise ValueError('one address like "ops@example.org" is needed')
    return address


MailAddress = Annotated[str, AfterValidator(_email)]
