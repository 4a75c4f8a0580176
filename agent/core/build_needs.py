"""What a build of a package lacks on Debian: read from the words of compilers, linkers and build scripts.

Invariant: this is advice for people. Where the words are not known, it says nothing.
"""

import re

_HEADERS = {
    "Python.h": "python3-dev",
    "ffi.h": "libffi-dev",
    "libpq-fe.h": "libpq-dev",
    "mysql.h": "default-libmysqlclient-dev",
    "openssl/": "libssl-dev",
    "libxml/": "libxml2-dev",
    "libxslt/": "libxslt1-dev",
    "zlib.h": "zlib1g-dev",
    "jpeglib.h": "libjpeg-dev",
    "ft2build.h": "libfreetype-dev",
    "lber.h": "libldap-dev",
    "ldap.h": "libldap-dev",
    "sasl/": "libsasl2-dev",
    "sasl.h": "libsasl2-dev",
    "sql.h": "unixodbc-dev",
    "sqlite3.h": "libsqlite3-dev",
    "bzlib.h": "libbz2-dev",
    "lzma.h": "liblzma-dev",
    "yaml.h": "libyaml-dev",
    "gmp.h": "libgmp-dev",
    "mpfr.h": "libmpfr-dev",
    "curl/": "libcurl4-openssl-dev",
    "krb5.h": "libkrb5-dev",
    "gssapi/": "libkrb5-dev",
    "magic.h": "libmagic-dev",
    "cairo.h": "libcairo2-dev",
    "gdal.h": "libgdal-dev",
    "geos_c.h": "libgeos-dev",
    "proj.h": "libproj-dev",
    "hdf5.h": "libhdf5-dev",
    "snappy-c.h": "libsnappy-dev",
    "rdkafka.h": "librdkafka-dev",
    "librdkafka/": "librdkafka-dev",
    "zmq.h": "libzmq3-dev",
    "sodium.h": "libsodium-dev",
    "uuid/": "uuid-dev",
    "portaudio.h": "portaudio19-dev",
    "libvirt/": "libvirt-dev",
    "systemd/": "libsystemd-dev",
    "dbus/": "libdbus-1-dev",
    "pcre.h": "libpcre3-dev",
    "xmlsec/": "libxmlsec1-dev",
    "linux/": "linux-libc-dev",
    "stdio.h": "libc6-dev",
    "limits.h": "libc6-dev",
    "string.h": "libc6-dev",
}
"""By the header that is missing, or the folder that it is in."""

_PROGRAMS = {
    "pg_config": "libpq-dev",
    "mysql_config": "default-libmysqlclient-dev",
    "mariadb_config": "libmariadb-dev",
    "xml2-config": "libxml2-dev",
    "xslt-config": "libxslt1-dev",
    "curl-config": "libcurl4-openssl-dev",
    "krb5-config": "libkrb5-dev",
    "gdal-config": "libgdal-dev",
    "geos-config": "libgeos-dev",
    "freetype-config": "libfreetype-dev",
    "pkg-config": "pkg-config",
    "pkgconf": "pkg-config",
    "cmake": "cmake",
    "ninja": "ninja-build",
    "make": "make",
    "swig": "swig",
    "git": "git",
    "cargo": "cargo",
    "rustc": "cargo",
    "gfortran": "gfortran",
    "gcc": "gcc",
    "cc": "gcc",
    "c++": "g++",
    "g++": "g++",
    "x86_64-linux-gnu-gcc": "gcc",
    "x86_64-linux-gnu-g++": "g++",
    "aarch64-linux-gnu-gcc": "gcc",
    "aarch64-linux-gnu-g++": "g++",
    "clang": "gcc",
}
"""By the program that is missing."""

_LIBRARIES = {
    "pq": "libpq-dev",
    "ssl": "libssl-dev",
    "crypto": "libssl-dev",
    "ffi": "libffi-dev",
    "z": "zlib1g-dev",
    "xml2": "libxml2-dev",
    "xslt": "libxslt1-dev",
    "jpeg": "libjpeg-dev",
    "sqlite3": "libsqlite3-dev",
    "ldap": "libldap-dev",
    "ldap_r": "libldap-dev",
    "lber": "libldap-dev",
    "mysqlclient": "default-libmysqlclient-dev",
    "libpq": "libpq-dev",
    "libffi": "libffi-dev",
    "openssl": "libssl-dev",
    "libxml-2.0": "libxml2-dev",
    "libxslt": "libxslt1-dev",
    "cairo": "libcairo2-dev",
    "systemd": "libsystemd-dev",
    "libsystemd": "libsystemd-dev",
    "dbus-1": "libdbus-1-dev",
    "openblas": "libopenblas-dev",
    "xmlsec1": "libxmlsec1-dev",
    "libvirt": "libvirt-dev",
    "hdf5": "libhdf5-dev",
    "gobject-introspection-1.0": "libgirepository1.0-dev",
}
"""By the name that a linker or pkg-config knows."""

_HEADER = re.compile(r"fatal error: '?([\w./+-]{1,100}\.(?:h|hpp))'?(?:: No such file| file not found)")
_PROGRAM = (
    re.compile(r"(?:command|program|tool) ['\"`]?([\w+.-]{1,50})['\"`]? (?:failed: No such file|not found)"),
    re.compile(r"(?:^|[\s:'\"`/])([\w+.-]{1,50})['\"`]?: (?:command )?not found", re.M),
    re.compile(r"No such file or directory: ['\"]([\w+.-]{1,50})['\"]"),
    re.compile(r"([\w+.-]{1,50}) executable not found"),
    re.compile(r"(?:Unable to find|Could not find|Failed to find|Cannot find) [`'\"]?([\w+.-]{1,50})[`'\"]?"),
    re.compile(r"Unknown compiler\(s\): \[+['\"]([\w+.-]{1,50})['\"]"),
)
_LIBRARY = (
    re.compile(r"cannot find -l([\w+.-]{1,50})"),
    re.compile(r"No package '([\w+.-]{1,50})' found"),
    re.compile(r"Package '?([\w+.-]{1,50})'?(?:,[^\n]{1,100})? (?:was )?not found"),
    re.compile(r"Dependency \"?([\w+.-]{1,50})\"? not found"),
)
_WORDS = (
    (re.compile(r"can't find Rust compiler|Cargo, the Rust package manager, is not installed"), "cargo"),
    (re.compile(r"Please make sure the libxml2 and libxslt development packages are installed"), "libxml2-dev"),
    (re.compile(r"Please make sure the libxml2 and libxslt development packages are installed"), "libxslt1-dev"),
    (re.compile(r"headers or library files could not be found for jpeg"), "libjpeg-dev"),
    (re.compile(r"headers or library files could not be found for zlib"), "zlib1g-dev"),
    (re.compile(r"Can not find valid pkg-config name"), "default-libmysqlclient-dev"),
    (re.compile(r"Did not find pkg-config|pkg-config: not found|pkg-config is required"), "pkg-config"),
    (re.compile(r"No CMAKE_CXX_COMPILER could be found"), "g++"),
    (re.compile(r"No CMAKE_C_COMPILER could be found"), "gcc"),
)


def debian_packages(said: str) -> tuple[str, ...]:
    """The Debian packages that a build lacks, by what it wrote; in the order in which it missed them."""
    found: list[tuple[int, str]] = []
    for match in _HEADER.finditer(said):
        header = match[1]
        folder = header.partition("/")[0] + "/"
        if package := _HEADERS.get(header) or _HEADERS.get(folder if "/" in header else ""):
            found.append((match.start(), package))
    for patterns, known in ((_PROGRAM, _PROGRAMS), (_LIBRARY, _LIBRARIES)):
        for pattern in patterns:
            found += [(one.start(), known[one[1]]) for one in pattern.finditer(said) if one[1] in known]
    for pattern, package in _WORDS:
        found += [(one.start(), package) for one in pattern.finditer(said)]
    return tuple(dict.fromkeys(package for _, package in sorted(found)))
