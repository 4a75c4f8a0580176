"""A channel document as it arrives: its signature first, then its form.

Invariant: nothing of a document is read before its signature holds, and a key that may only sign releases cannot
sign a channel.
"""

import hashlib

from agent.core.channel import TrustedChannel
from agent.host.bundle.signatures import DEADLINE_S, TrustFiles
from agent.host.bundle.signers import verify
from pusher.wire import Code, Refused, WireError
from pusher.wire.channel import CHANNEL_NAMESPACE, Channel, split_signed

_WORDS = {
    Code.SIGNER_UNKNOWN: (
        "The signer of the channel document may not decide here what is deployed",
        "Run `pusher-agent trust KEY.pub --as WHO --channels` to let the holder of a key do that",
    ),
    Code.SIGNER_REVOKED: ("The key that signed the channel document is revoked", "Publish with another key"),
    Code.SIGNATURE_INVALID: (
        "The channel document is not signed as it must be",
        "Publish again; if that does not help, somebody changed it in the repository, or on the way",
    ),
}
"""What a refusal of a signature means for a channel."""


def read_channel(raw: bytes, *, files: TrustFiles) -> TrustedChannel:
    """The document in an object, if somebody signed it who may. Blocking.

    Raises: Refused(channel_malformed), and as `agent.host.bundle.signers.verify`.
    """
    try:
        document, signature = split_signed(raw)
        signer = verify(
            document,
            signature,
            allowed_signers=files.allowed_signers,
            revoked_keys=files.revoked_keys,
            deadline_s=DEADLINE_S,
            namespace=CHANNEL_NAMESPACE,
        )
        return TrustedChannel(Channel.from_bytes(document), hashlib.sha256(document).hexdigest(), signer.principal)
    except Refused as refusal:
        what, hint = _WORDS.get(refusal.code, (refusal.what, refusal.hint))
        raise Refused(refusal.code, what, why=refusal.why, hint=hint, output=refusal.output) from refusal
    except WireError as error:
        raise Refused(
            Code.CHANNEL_MALFORMED,
            "The channel document does not have the format that this agent reads",
            why=str(error),
            hint="Publish it with `pusher` of the agent's version",
        ) from error
