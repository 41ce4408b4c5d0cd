"""The one HTTP client: redirects, retries, rate limits, redaction.

Nothing above this package knows the library underneath. `Client.ask` gives small whole
answers, `Client.open` a `Reply` whose body the engine drains into its own buffers.
"""

from modelbay.http.answer import Answer
from modelbay.http.client import Client
from modelbay.http.hosts import Delay, Hosts
from modelbay.http.kept import Cut
from modelbay.http.reach import Reach
from modelbay.http.reply import Landing, Reply

__all__ = ["Answer", "Client", "Cut", "Delay", "Hosts", "Landing", "Reach", "Reply"]
