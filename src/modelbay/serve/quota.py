"""Requests counted in fixed windows, told in `RateLimit` headers (protocols-hub A4)."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from modelbay.serve.access import Account, Refusal
from modelbay.serve.http11 import Request

WINDOW_SECONDS: Final = 300


class Quota:
    """`limits` by bucket (`api`, `resolvers`, `pages`), for each account or address."""

    def __init__(self, limits: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._window = 0
        self._counted: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def take(
        self, bucket: str, request: Request, account: Account | None
    ) -> tuple[tuple[str, str], ...]:
        """Counts one; gives the headers. Raises Refusal when none was left."""
        limit = self._limits[bucket]
        now = int(self._clock())
        who = account.name if account else request.peer
        with self._lock:
            if now // WINDOW_SECONDS != self._window:
                self._window = now // WINDOW_SECONDS
                self._counted.clear()
            self._counted[bucket, who] += 1
            left = limit - self._counted[bucket, who]
        headers = (
            ("RateLimit", f'"{bucket}";r={max(left, 0)};t={WINDOW_SECONDS - now % WINDOW_SECONDS}'),
            ("RateLimit-Policy", f'"fixed window";"{bucket}";q={limit};w={WINDOW_SECONDS}'),
        )
        if left < 0:
            raise Refusal(429, _sentence(bucket, limit, request, account), headers=headers)
        return headers


def _sentence(bucket: str, limit: int, request: Request, account: Account | None) -> str:
    if account is None:
        return (
            f"We had to rate limit your IP ({request.peer}). To continue using our service, "
            "create a HF account or login to your existing account, and make sure you pass a "
            "HF_TOKEN if you're using the API."
        )
    return (
        f"We had to rate limit you, you hit the quota of {limit} {bucket} requests per "
        "5 minutes period."
    )
