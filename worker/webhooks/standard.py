"""Events over HTTP, signed by the Standard Webhooks scheme: https://www.standardwebhooks.com"""

import ssl
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

from standardwebhooks import Webhook

from schedules.charging.outcomes import NotSent, Unknown
from worker.clock import elapsed
from worker.gateway.masking import told
from worker.gateway.timeouts import Timeouts
from worker.gateway.transport import Call, HttpClient
from worker.webhooks.port import Accepted, Answer, Gone, Message, NotTaken

# A receiver writes the event down and answers; what it does about it comes after. The deadline holds for one
# that answers a byte at a time, too.
PATIENCE = Timeouts(connect=5, read=15, write=15, deadline=20)
WORDS_LIMIT = 200  # characters of the receiver's own that are kept


class StandardWebhook:
    """One address and its secrets; each secret signs, so that one can be rotated. Redirects are not followed."""

    def __init__(
        self, url: str, secrets: Sequence[str], patience: Timeouts = PATIENCE, trust: ssl.SSLContext | None = None
    ) -> None:
        self._url = url
        self._signers = [Webhook(secret) for secret in secrets]
        self._patience = patience
        self._http = HttpClient(patience, trust)

    def send(self, message: Message, now: datetime) -> Answer:
        """POST one event, once; any status of 200 to 299 means that the receiver has it."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # its words are kept as they come
            "user-agent": "Again",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(self._signatures(message, now)),
        }
        call = Call("POST", self._url, headers, message.body.encode())
        reply = self._http.send_and_wait(call, elapsed() + self._patience.deadline)
        if isinstance(reply, NotSent | Unknown):
            return NotTaken(reply.reason)
        own_words = told(reply.body[: 4 * WORDS_LIMIT].decode(errors="replace"), WORDS_LIMIT)
        words = f"HTTP {reply.status}" + (f": {own_words}" if own_words else "")
        if reply.status == HTTPStatus.GONE:
            return Gone(words)
        return Accepted(words) if 200 <= reply.status < 300 else NotTaken(words)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _signatures(self, message: Message, now: datetime) -> Sequence[str]:
        return [signer.sign(message.id, now, message.body) for signer in self._signers]
