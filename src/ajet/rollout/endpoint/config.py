"""How agents reach their models; the server behind `as_oai_baseurl_apikey` starts only when a workflow asks for it.

`unsupported` and `on_overflow` hold on all three interfaces.
"""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.fields import one_of, ruled


@dataclass
class EndpointConfig:
    """What requests of agents may ask for, and where the server listens that answers those that come by URL."""

    unsupported: str = one_of("refuse", "refuse", "ignore")
    """A trained agent asks for what would make the sampled distribution differ from the trained one, e.g. top_p:
    `refuse` the request with a reason, or `ignore` that part of it with a warning."""
    on_overflow: str = one_of("raise", "raise", "reply")
    """A conversation has outgrown the model's context: `raise` an error, which ends most programs, or `reply` with a
    fixed sentence that is not trained on. Either way `tuner.get_context_tracker().context_overflow` is set."""
    host: str = "127.0.0.1"
    """The address to listen on. Whoever reaches it still needs a key of a running episode."""
    port: int = ruled(0, at_least=0, at_most=65535)
    """The port; 0: any free one."""
    max_body_mib: float = ruled(8.0, above=0)
    """Largest request body, MiB."""
