"""Which release a rollback goes to, and which ones retention deletes."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.releases import Release, Standing, listing, rollback_targets, surplus

G, W, F, C = Standing.GOOD, Standing.WITHDRAWN, Standing.FAILED, Standing.CANDIDATE


def store(*standings: Standing, pinned: tuple[int, ...] = ()) -> list[Release]:
    return [
        Release(id=f"2026112302{n:04d}Z", version=f"v{n}", standing=standing, created=n, pinned=n in pinned)
        for n, standing in enumerate(standings, 1)
    ]


def versions(releases) -> list[str]:
    return [one.version for one in releases]


def test_a_rollback_goes_to_the_newest_good_release_older_than_the_live_one():
    three = store(G, G, G)
    assert versions(rollback_targets(three, live=three[2].id)) == ["v2", "v1"]
    assert versions(rollback_targets(three, live=three[1].id)) == ["v1"]
    assert rollback_targets(three, live=three[0].id) == []


def test_after_v1_v2_v3_rollback_v4_a_rollback_goes_to_v2_and_not_to_the_withdrawn_v3():
    four = store(G, G, W, G)
    assert versions(rollback_targets(four, live=four[3].id)) == ["v2", "v1"]


def test_failed_releases_and_candidates_are_never_rollback_targets():
    four = store(G, F, C, G)
    assert versions(rollback_targets(four, live=four[3].id)) == ["v1"]


def test_while_nothing_is_live_every_good_release_is_a_rollback_target():
    assert versions(rollback_targets(store(G, W, G), live=None)) == ["v3", "v1"]


def test_of_seven_good_releases_the_five_newest_are_kept():
    seven = store(*[G] * 7)
    assert versions(surplus(seven, live=seven[6].id, keep=5)) == ["v1", "v2"]


def test_a_pinned_release_is_kept_and_not_counted():
    seven = store(*[G] * 7, pinned=(1,))
    assert versions(surplus(seven, live=seven[6].id, keep=5)) == ["v2"]


def test_withdrawn_and_failed_releases_do_not_push_good_ones_out():
    many = store(G, G, F, W, F, G)
    assert surplus(many, live=many[5].id, keep=3) == []


def test_a_failed_release_goes_when_it_is_older_than_every_good_release_kept():
    many = store(F, W, G, G, G)
    assert versions(surplus(many, live=many[4].id, keep=2)) == ["v1", "v2", "v3"]


def test_of_releases_that_failed_in_a_row_only_as_many_are_kept_as_of_good_ones():
    many = store(G, G, F, F, F, F)
    assert versions(surplus(many, live=many[1].id, keep=2)) == ["v3", "v4"]


def test_what_was_live_until_now_is_kept_even_if_an_older_journal_prefers_another():
    three = store(G, G, G)
    assert versions(surplus(three, live=three[2].id, keep=1)) == ["v1"]
    assert surplus(three, live=three[2].id, keep=1, previous=three[0].id) == []


@given(
    standings=st.lists(st.sampled_from(list(Standing)), min_size=1, max_size=12),
    pinned=st.sets(st.integers(1, 12)),
    keep=st.integers(1, 6),
    data=st.data(),
)
def test_the_live_release_its_rollback_target_and_pinned_ones_never_go(standings, pinned, keep, data):
    releases = store(*standings, pinned=tuple(pinned))
    live = data.draw(st.sampled_from(releases)).id
    gone = {one.id for one in surplus(releases, live=live, keep=keep)}
    assert live not in gone
    assert not gone & {one.id for one in rollback_targets(releases, live=live)[:1]}
    assert not gone & {one.id for one in releases if one.pinned}
    good = [one.id for one in releases if one.standing is G]
    assert not gone & set(good[-keep:][1:] if live not in good else good[-keep:])


def test_a_listing_names_versions_and_what_became_of_releases_that_are_not_good():
    three = store(G, W, F)
    ids = [one.id for one in three]
    assert listing(three) == f"{ids[0]} (v1), {ids[1]} (v2, withdrawn), {ids[2]} (v3, failed)"
    assert listing([]) == "none"
