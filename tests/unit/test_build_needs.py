"""What a build lacks, as compilers and build scripts say it."""

import pytest

from agent.core.build_needs import debian_packages


@pytest.mark.parametrize(
    ("said", "packages"),
    [
        ("Error: pg_config executable not found.\n\npg_config is required to build psycopg2", "libpq-dev"),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "gcc"),
        ("error: command 'gcc' failed: No such file or directory", "gcc"),
        ("src/x.c:4:10: fatal error: Python.h: No such file or directory", "python3-dev"),
        ("c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory", "libffi-dev"),
        ("src/lxml/etree.c:5: fatal error: libxml/xmlversion.h: No such file or directory", "libxml2-dev"),
        ("x.c:1:10: fatal error: 'zlib.h' file not found", "zlib1g-dev"),
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", "libpq-dev"),
        ("Exception: Can not find valid pkg-config name.", "default-libmysqlclient-dev"),
        ("/bin/sh: 1: mysql_config: not found", "default-libmysqlclient-dev"),
        ("/bin/sh: 1: pkg-config: not found", "pkg-config"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "cmake"),
        ("error: can't find Rust compiler", "cargo"),
        ("Cargo, the Rust package manager, is not installed or is not on PATH.", "cargo"),
        ("../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", "gcc"),
        ('../meson.build:31:12: ERROR: Dependency "cairo" not found, tried pkgconfig', "libcairo2-dev"),
        ("Package libsystemd was not found in the pkg-config search path.", "libsystemd-dev"),
        (
            "The headers or library files could not be found for jpeg,\na required dependency",
            "libjpeg-dev",
        ),
        ("Error: Please make sure the libxml2 and libxslt development packages are installed.",
         "libxml2-dev libxslt1-dev"),
        ("x.c:1: fatal error: Python.h: No such file\ny.c:1: fatal error: lber.h: No such file",
         "python3-dev libldap-dev"),
        ("error: subprocess-exited-with-error", ""),
        ("x.c:1: fatal error: mine.h: No such file or directory", ""),
        ("fatal error: " + "a" * 100_000, ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_words_of_a_build_name_the_debian_packages_that_it_lacks(said: str, packages: str) -> None:
    assert " ".join(debian_packages(said)) == packages
