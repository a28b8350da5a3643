"""The access token: one per account, the same during its lifetime, extended when requested near its end."""

import hashlib
import hmac

from simulator.shop import Refusal, Shop

LIFE = 1800
LAST_MINUTE = 60
EXTENSION = 300


class Tokens:
    """Issues the account's token and checks it."""

    def __init__(self, shop: Shop, key: str, secret: str) -> None:
        self._shop, self._key, self._secret = shop, key, secret
        self._token = ""
        self._expires = 0.0
        self._issued = 0

    def issue(self, key: str | None, secret: str | None) -> dict[str, object]:
        """Return the token for these credentials; raises Refusal for wrong ones."""
        if not key or not secret:
            raise Refusal(-1, "imp_key, imp_secret 파라메터가 누락되었습니다.", 400)
        if not (_same(key, self._key) and _same(secret, self._secret)):
            raise Refusal(-1, "인증에 실패하였습니다. API키와 secret을 확인하세요.", 401)
        now = self._shop.clock.now()
        if now >= self._expires:
            self._issued += 1
            self._token = hashlib.sha1(f"{self._secret}/{self._issued}/{now}".encode()).hexdigest()  # noqa: S324 # only its form matters
            self._expires = now + LIFE
        elif self._expires - now < LAST_MINUTE:
            self._expires += EXTENSION
        return {"access_token": self._token, "now": int(now), "expired_at": int(self._expires)}

    def expire(self) -> None:
        """Expire the token now."""
        self._expires = 0.0

    def check(self, header: str | None) -> None:
        """Refuse a request without a valid token."""
        token = (header or "").removeprefix("Bearer ").strip()
        alive = self._shop.clock.now() < self._expires
        if not (alive and token and _same(token, self._token)):
            raise Refusal(-1, "Unauthorized", 401)


def _same(given: str, right: str) -> bool:
    """Compare in constant time; text outside ASCII is compared as UTF-8."""
    return hmac.compare_digest(given.encode(), right.encode())
