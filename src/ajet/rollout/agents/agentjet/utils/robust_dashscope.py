"""`RobustDashScopeChatModel`, as AgentJet has it: an AgentScope chat model that tries again, with other keys if there
are any.

AgentJet's speaks DashScope's own protocol; this one asks any OpenAI-compatible server, DashScope's among them.
"""

from __future__ import annotations

from typing import Any

from ajet.errors import require_extra
from ajet.rollout.agents.agentscope_names import alias_mcp_names

require_extra("agentscope", needed_by="RobustDashScopeChatModel")
alias_mcp_names()

from agentscope.model import OpenAIChatModel  # noqa: E402
from openai import OpenAIError  # noqa: E402

from ajet.rollout.agents.agentjet.task_rollout.dashscope_llm_bridge import NUM_TRIES, Account  # noqa: E402


class RobustDashScopeChatModel(OpenAIChatModel):  # type: ignore[misc]
    """An `OpenAIChatModel` whose server and keys come from the environment; see `Account`."""

    def __init__(
        self,
        model_name: str = "qwen3-max",
        stream: bool = False,
        max_try: int = NUM_TRIES,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """`kwargs` are `OpenAIChatModel`'s, e.g. `generate_kwargs={"temperature": 0.0}`.

        Raises:
            RuntimeError: no key where one is needed.
        """
        self._account = Account.of_environment(base_url, api_key)
        self._max_try = max_try
        own = kwargs.pop("client_kwargs", None) or kwargs.pop("client_args", None) or {}
        client = {"base_url": self._account.base_url, "max_retries": 1, **own}
        super().__init__(model_name, api_key=self._account.key(0), stream=stream, client_kwargs=client, **kwargs)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As `OpenAIChatModel`.

        Raises:
            RuntimeError: no try was answered.
        """
        for number in range(self._max_try):
            self.client.api_key = self._account.key(number)
            try:
                return await super().__call__(*args, **kwargs)
            except OpenAIError as error:
                failure = error
        raise RuntimeError(f"{self._account.base_url} gave no reply in {self._max_try} tries: {failure}") from failure
