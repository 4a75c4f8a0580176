"""Reports that were proved before: what is remembered of them, and what is looked at each time."""

from pathlib import Path

import pytest

from pusher.fleet.inventory import Member
from pusher.fleet.proved import Proved, proof
from pusher.fleet.reports import Heard, read_reports
from pusher.repository.store import Found
from pusher.wire import WireError
from pusher.wire.channel import join_signed, report_name, split_signed
from pusher.wire.report import Report
from tests.library_keys import LibraryIdentity
from tests.publishing import APP, CHANNEL
from tests.reporting import NOW, Reporting, check_report


@pytest.fixture(scope="module")
def web1(tmp_path_factory: pytest.TempPathFactory) -> Reporting:
    return Reporting(tmp_path_factory.mktemp("hosts"), "web1")


class Lying:
    """A place for reports with what a test puts there."""

    def __init__(self, **contents: bytes) -> None:
        self.contents = {report_name(APP, name): content for name, content in contents.items()}

    def read(self, name: str, *, most: int) -> Found | None:
        content = self.contents.get(name)
        return None if content is None else Found(content, "")


def heard(place: Lying, member: Member, file: Path) -> Heard:
    """As a command that begins anew."""
    [one] = read_reports([place], [member], app=APP, channel=CHANNEL, proved=Proved(file))
    return one


def test_a_report_is_verified_once_and_read_the_same_afterwards(web1: Reporting, tmp_path: Path) -> None:
    file, place = tmp_path / "state/reports/stable", Lying(web1=web1.signed(labels={"zone": "eu"}))
    first = heard(place, web1.member, file)
    assert first.report
    assert Proved(file).knows(proof(place.contents[report_name(APP, "web1")], key=web1.member.key))
    assert heard(place, web1.member, file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_another_report_another_signature_and_another_key_are_verified_anew(
    web1: Reporting, tmp_path: Path
) -> None:
    file, content = tmp_path / "proved", web1.signed()
    assert heard(Lying(web1=content), web1.member, file).report
    document, signature = split_signed(content)
    forged = document.replace(b'"current"', b'"waiting"') + b"\n" + signature
    assert heard(Lying(web1=forged), web1.member, file).why == "its report is not signed with its key"
    other = Reporting(tmp_path, "web1")
    assert heard(Lying(web1=content), web1.member, file).report
    assert heard(Lying(web1=content), other.member, file).why == "its report is not signed with its key"
    assert heard(Lying(web1=other.signed()), web1.member, file).why == "its report is not signed with its key"
    assert heard(Lying(web1=content), web1.member, file).report


def test_a_report_that_was_proved_counts_only_where_it_belongs(web1: Reporting) -> None:
    proved, content = Proved(), web1.signed()
    for _ in range(2):
        assert check_report(content, web1.member, app=APP, channel=CHANNEL, proved=proved).report
        proved.keep()
    assert "about flask-demo" in check_report(content, web1.member, app="shop", channel=CHANNEL, proved=proved).why
    assert "stable" in check_report(content, web1.member, app=APP, channel="beta", proved=proved).why
    as_web2 = Member("web2", web1.member.key)
    assert "on web1" in check_report(content, as_web2, app=APP, channel=CHANNEL, proved=proved).why


def test_a_signed_report_of_another_form_is_not_remembered(web1: Reporting) -> None:
    proved, document = Proved(), b'{"schema":2}'
    content = document + b"\n" + web1.identity.sign(document)
    for _ in range(2):
        assert "cannot be read" in check_report(content, web1.member, app=APP, channel=CHANNEL, proved=proved).why
        proved.keep()
    with pytest.raises(WireError):
        Report.from_bytes(document)


def test_only_the_reports_that_were_met_last_are_kept(web1: Reporting, tmp_path: Path) -> None:
    file = tmp_path / "proved"
    for created in range(NOW, NOW + 5):
        assert heard(Lying(web1=web1.signed(created=created)), web1.member, file).report
    assert file.stat().st_size == 32
    assert heard(Lying(), web1.member, file).why == ""
    assert file.stat().st_size == 0


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_could_have_written_is_not_read(web1: Reporting, tmp_path: Path, mode: int) -> None:
    file, content = tmp_path / "proved", web1.signed()
    assert heard(Lying(web1=content), web1.member, file).report
    file.chmod(mode)
    assert not Proved(file).knows(proof(content, key=web1.member.key))
    assert heard(Lying(web1=content), web1.member, file).report


def test_a_file_that_was_cut_off_or_cannot_be_made_costs_only_time(web1: Reporting, tmp_path: Path) -> None:
    file, content = tmp_path / "proved", web1.signed()
    assert heard(Lying(web1=content), web1.member, file).report
    file.write_bytes(file.read_bytes()[:-1])
    assert not Proved(file).knows(proof(content, key=web1.member.key))
    assert heard(Lying(web1=content), web1.member, file).report
    (tmp_path / "taken").write_text("")
    for _ in range(2):
        assert heard(Lying(web1=content), web1.member, tmp_path / "taken/proved").report


def test_each_of_many_hosts_is_believed_for_its_own_signature_alone(tmp_path: Path) -> None:
    """In two places, of which each lacks some reports; some were proved before, and some are signed by others."""
    hosts = [Reporting(tmp_path, f"web{at}", identity=LibraryIdentity) for at in range(200)]
    members, proved = [one.member for one in hosts], Proved()
    places = Lying(), Lying()
    for at, host in enumerate(hosts):
        signer = hosts[at - 1].identity if at % 5 == 0 else host.identity
        for place, created in zip(places, (NOW - at, NOW - 100), strict=True):
            if place is places[at % 2] or at % 3 == 0:
                document = split_signed(host.signed(created=created))[0]
                place.contents[report_name(APP, host.name)] = join_signed(document, signer.sign(document))
    for known in (members[:80], members, members):
        heard = read_reports(places, known, app=APP, channel=CHANNEL, proved=proved)
        assert [one.name for one in heard] == [one.name for one in known]
        for at, one in enumerate(heard):
            if at % 5 == 0:
                assert (one.report, one.why) == (None, "its report is not signed with its key")
                continue
            times = [NOW - at, NOW - 100]
            assert one.report
            assert one.report.host == one.name
            assert one.report.created == (max(times) if at % 3 == 0 else times[at % 2])
