"""Several armored signatures in one file are told apart by their armor alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.wire import SIGNATURES_MOST, LimitError, split_signatures

END = b"-----END SSH SIGNATURE-----\n"
ONE, TWO = b"-----BEGIN SSH SIGNATURE-----\nYQ==\n" + END, b"-----BEGIN SSH SIGNATURE-----\nYg==\n" + END


def test_each_armor_is_one_signature():
    assert split_signatures(ONE) == [ONE]
    assert split_signatures(ONE + TWO + ONE) == [ONE, TWO, ONE]


def test_what_follows_the_last_armor_is_kept_to_be_refused():
    assert split_signatures(ONE + b"x") == [ONE, b"x"]
    assert split_signatures(b"") == [b""]
    assert split_signatures(b"no signature") == [b"no signature"]


def test_more_signatures_than_the_limit_are_refused():
    assert len(split_signatures(ONE * SIGNATURES_MOST)) == SIGNATURES_MOST
    with pytest.raises(LimitError, match="it has 5 signatures; the limit is 4"):
        split_signatures(ONE * (SIGNATURES_MOST + 1))


@given(st.lists(st.sampled_from([ONE, TWO, END, b"x", b"-", b"\n"]), max_size=8))
def test_the_parts_joined_are_the_same_bytes(pieces):
    raw = b"".join(pieces)
    if raw.count(END) <= SIGNATURES_MOST:
        assert b"".join(split_signatures(raw)) == raw
