"""What an app asks of the signatures of a bundle: how many, and by which kind of key.

Invariant: two signatures count twice only if both the principal and the key differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.sshsig import Envelope
from pusher.wire import Code, Refused


@dataclass(frozen=True, slots=True)
class Signer:
    """A signer: the principal in `allowed_signers` (a pattern, if only that is there), and the key."""

    principal: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SigningRules:
    """How many different people must have signed, and whether their keys must have asked for a touch or a PIN."""

    required: int = 1
    touch: bool = False
    pin: bool = False

    def check_hardware(self, envelope: Envelope) -> None:
        """Refuse a signature whose key did not ask its user, where the app wants that. Raises: Refused."""
        if (envelope.touched or not self.touch) and (envelope.unlocked or not self.pin):
            return
        asked = "a touch" if envelope.unlocked or not self.pin else "its PIN"
        kind = "that key is not on a security key" if envelope.flags is None else f"it was signed without {asked}"
        raise Refused(
            Code.TOUCH_MISSING,
            "This app accepts only signatures of security keys that asked their user",
            why=f"{kind} ({envelope.key_type} {envelope.fingerprint})",
            hint="Sign with a key made by `ssh-keygen -t ed25519-sk`"
            + (" -O verify-required" if self.pin else ""),
        )

    def check_number(self, signers: Sequence[Signer], refusals: Sequence[Refused]) -> list[Signer]:
        """The signers that count, each person and each key once; `refusals` say why other signatures do not.

        Raises: Refused, if they are too few.
        """
        counted: list[Signer] = []
        for one in signers:
            if all(one.principal != it.principal and one.fingerprint != it.fingerprint for it in counted):
                counted.append(one)
        if len(counted) >= self.required:
            return counted
        if not signers:
            raise refusals[0]
        names = ", ".join(one.principal for one in counted)
        others = "".join(f"; one does not count: {one.why}" for one in refusals)
        raise Refused(
            Code.SIGNATURES_MISSING,
            f"This app needs {self.required} signatures by different people",
            why=f"{len(counted)} of them counted: {names}{others}",
            hint="Pack it, let another signer run `pusher sign FILE`, and send that file",
        )
