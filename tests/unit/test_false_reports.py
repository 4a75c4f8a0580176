"""A server that says that something is live: it is believed only for the manifest that was signed."""

import pytest

from pusher.fleet.follow import check_live
from pusher.transport.client import is_deployment
from pusher.wire import Event, Failed, Happened
from tests.unit.scripted_agent import ABOUT, DEPLOYMENT, EVENTS, Run
from tests.unit.scripted_door import ScriptedDoor, events

FINISHED = {**ABOUT, "outcome": "done", "ms": 640}


@pytest.mark.parametrize("said", [None, "", "ab" * 32, 7, ["ab" * 32], True], ids=repr)
def test_send_calls_nothing_live_but_what_was_signed(
    said: object,
    door: ScriptedDoor,
    pusher: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    door.on("GET", EVENTS, events(Event(3, 0, Happened.FINISHED, {**FINISHED, "manifest": said})))
    assert pusher("send", "v3", "--host", door.address) == 1
    out, err = capsys.readouterr()
    assert " is live on " not in out
    assert "flask-demo v3 is not known to be live on http://127.0.0.1" in err
    assert "the signed manifest is " in err


def test_the_digest_must_be_that_of_the_manifest_to_the_last_letter() -> None:
    digest = "ab" * 32
    check_live({"manifest": digest}, digest, what="shop v1", host="web1")
    for other in (digest.upper(), digest[:-1], f"{digest}\n", digest[:-1] + "c"):
        with pytest.raises(Failed, match="shop v1 is not known to be live on web1"):
            check_live({"manifest": other}, digest, what="shop v1", host="web1")


@pytest.mark.parametrize(
    ("name", "app", "good"),
    [
        (DEPLOYMENT, "", True),
        (DEPLOYMENT, "flask-demo", True),
        (DEPLOYMENT, "other", False),
        (DEPLOYMENT + "\n", "", False),
        (DEPLOYMENT.upper(), "", False),
        ("--help-20261123020055Z", "", False),
        (7, "", False),
        (None, "", False),
    ],
)
def test_what_can_be_the_name_of_a_deployment(name: object, app: str, good: bool) -> None:
    assert is_deployment(name, app) is good
