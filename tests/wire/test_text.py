"""JSON, times and names have one spelling each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import WireError, canonical, check_app, check_version, format_timestamp, parse_timestamp
from pusher.wire.text import check_sha256, parse_object, take, take_count

LAST_OF_9999 = 253_402_300_799_999


@given(st.integers(0, LAST_OF_9999))
def test_a_timestamp_reads_as_what_was_written(ms: int) -> None:
    assert parse_timestamp(format_timestamp(ms)) == ms


@given(st.lists(st.integers(0, LAST_OF_9999), min_size=2))
def test_timestamps_sort_as_the_times_they_spell(moments: list[int]) -> None:
    assert sorted(map(format_timestamp, moments)) == [format_timestamp(ms) for ms in sorted(moments)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T02:00:55Z",
        "2026-11-23T02:00:55.0Z",
        "2026-11-23T02:00:55.0000Z",
        "2026-11-23T02:00:55.000+00:00",
        "2026-11-23 02:00:55.000Z",
        "2026-11-23t02:00:55.000z",
        "2026-02-30T02:00:55.000Z",
        "2026-11-23T24:00:00.000Z",
        "0000-11-23T02:00:55.000Z",
        "\uff12026-11-23T02:00:55.000Z",
        "2026-11-23T02:00:55.000Z\n",
    ],
)
def test_any_other_spelling_of_a_time_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="is not a time"):
        parse_timestamp(text)


def test_canonical_json_sorts_keys_and_has_no_space() -> None:
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()


def test_half_a_surrogate_pair_has_no_canonical_form() -> None:
    with pytest.raises(WireError, match="has no spelling in UTF-8"):
        canonical({"path": "\ud800"})


@pytest.mark.parametrize("name", ["ab", "flask-demo", "a1", "a" * 31])
def test_an_apps_name_may_be_a_units_and_a_users_name(name: str) -> None:
    assert check_app(name) == name


@pytest.mark.parametrize(
    "name", ["", "a", "A1", "1a", "-a", "a-", "a_b", "a.b", "a/b", "..", "aé", "a" * 32, "ab\n"]
)
def test_other_names_of_apps_are_refused(name: str) -> None:
    with pytest.raises(WireError, match="is not an app's name"):
        check_app(name)


@pytest.mark.parametrize("version", ["v1", "1", "1.2.3-rc.1+build_7", "a" * 64, "feature/login", "a/b/1.0"])
def test_a_version_is_letters_digits_and_five_signs(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize(
    "version", ["", ".", "..", "-v", "/a", "a/", "a//b", "a/../b", "a/.b", "a b", "é", "a" * 65, "v1\n", "v\0"]
)
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(WireError, match="is not a version"):
        check_version(version)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_a_digest_is_64_lower_case_hex_digits(digest: str) -> None:
    assert check_sha256("0f" * 32) == "0f" * 32
    with pytest.raises(WireError, match="is not a SHA-256 digest"):
        check_sha256(digest)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":1}{}', b'{"n":' + b"9" * 5000 + b"}"])
def test_text_that_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="it is not JSON"):
        parse_object(raw, "it")


@pytest.mark.parametrize("raw", [b"[]", b"1", b"null", b'"text"'])
def test_json_that_is_not_an_object_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="it is not a JSON object"):
        parse_object(raw, "it")


def test_a_member_must_exist_and_have_its_type() -> None:
    assert take({"a": "b"}, "a", str) == "b"
    for members in ({}, {"a": None}, {"a": 1}):
        with pytest.raises(WireError, match="'a' is missing"):
            take(members, "a", str)


@pytest.mark.parametrize("value", [True, False, -1])
def test_a_count_is_a_number_that_is_not_negative(value: int) -> None:
    assert take_count({"n": 0}, "n") == 0
    with pytest.raises(WireError, match="'n' is not a count"):
        take_count({"n": value}, "n")
