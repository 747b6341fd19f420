"""Lets agentscope 1.0 import beside mcp 2.

agentscope 1.0.21 imports two names that mcp 2 renamed, and vLLM needs mcp 2. The old names are added to
mcp before agentscope loads; nothing else of either package changes.
"""

from __future__ import annotations

from importlib.util import find_spec


def alias_mcp_names() -> None:
    """Give mcp 2 the names that agentscope 1.0 imports. Idempotent; without agentscope nothing asks for them."""
    if find_spec("agentscope") is None or find_spec("mcp") is None:
        return
    import mcp.client.streamable_http as streamable_http
    import mcp.shared.exceptions as exceptions

    names = vars(streamable_http)
    names.setdefault("streamablehttp_client", names.get("streamable_http_client"))
    names = vars(exceptions)
    names.setdefault("McpError", names.get("MCPError"))
