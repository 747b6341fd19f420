"""Request bodies: bytes in, a checked body out, then a `ChatRequest` and what the client wants of the reply's form.

Only shapes and values that no agent may send are refused here; what a trained agent may not ask for is in `refusals`.
A body is parsed once it is known to hold few enough values: two bytes of text can become fifty of objects, so that a
bound on bytes bounds neither memory nor time. It is checked up to its first fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from ajet.chat.types import ChatRequest, NamedTool, ToolChoice
from ajet.rollout.endpoint.api_error import ApiError

Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(fail_fast=True)]
"""A list whose check ends at its first fault: a hundred thousand faults cost gigabytes to write down."""
MOST_VALUES = 20_000
"""JSON values of one body; a thousand messages and two hundred tools have fewer. Ids of a raw prompt come on top."""
MOST_STRINGS = 50_000
"""Strings, keys included, beyond which values are not counted: each is a piece to look at."""
MOST_MESSAGES = 4096
"""Messages of one request. A template takes some 30 microseconds for each."""
LONGEST_NAME = 256
"""Characters of a tool's name; OpenAI takes 64."""
_KEPT = b'",[{'
_DROPPED = bytes(byte for byte in range(256) if byte not in _KEPT)
Body = TypeVar("Body", bound="SharedBody")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyForm:
    """How the client wants its reply."""

    stream: bool
    include_usage: bool
    """Streaming: whether the last piece tells the token counts."""
    logprobs: bool
    token_ids: bool


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(_Wire):
    """`stream_options`."""

    include_usage: bool | None = None


class SharedBody(_Wire):
    """What both endpoints take. Keys that are not named here stay in `model_extra`."""

    model: str | None = None
    """Any name: the key says who speaks."""
    max_tokens: PositiveInt | None = None
    stop: str | Listed[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None

    def stop_texts(self) -> tuple[str, ...]:
        """The stop texts, as a tuple whatever they came as."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if "" in stop:
            raise ApiError(400, "A stop text must not be empty.", code="invalid_value", param="stop")
        return tuple(stop)

    def settings(self) -> dict[str, Any]:
        """What shapes the sampling, and whatever else was sent."""
        return {"temperature": self.temperature, **(self.model_extra or {})}

    def form(self, *, logprobs: bool) -> ReplyForm:
        """How the reply is to be written."""
        return ReplyForm(
            stream=bool(self.stream),
            include_usage=bool(self.stream_options and self.stream_options.include_usage),
            logprobs=logprobs,
            token_ids=bool(self.return_token_ids),
        )

    def check_single(self) -> None:
        """Refuse several replies to one request.

        Raises:
            ApiError: n is neither 1 nor absent.
        """
        if self.n not in (None, 1):
            message = f"n={self.n}: one reply a request; send the request {self.n} times."
            raise ApiError(400, message, code="unsupported_value", param="n")


class Function(_Wire):
    """A tool's function. `strict` asks for a grammar, which sampling does not have: replies are parsed strictly."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME)


class Tool(_Wire):
    """One tool."""

    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        """As templates show it."""
        function = self.function.model_dump(exclude_unset=True)
        function.pop("strict", None)
        return {"type": "function", "function": function}


class NamedFunction(_Wire):
    """The function of a `tool_choice`."""

    name: str


class NamedChoice(_Wire):
    """A `tool_choice` that names a function."""

    type: Literal["function"]
    function: NamedFunction


class CalledFunction(_Wire):
    """What an earlier reply called."""

    name: str
    arguments: str | dict[str, Any]


class EarlierCall(_Wire):
    """A tool call in the history."""

    function: CalledFunction


class WireMessage(_Wire):
    """One message; its content is checked where it becomes plain."""

    role: str
    tool_calls: Listed[EarlierCall] | None = None


class ChatBody(SharedBody):
    """`/v1/chat/completions`."""

    messages: Listed[WireMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    tools: Listed[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def request(self) -> ChatRequest:
        """The request to the agent's model.

        Raises:
            ApiError: settings that contradict each other, or that no agent gets.
        """
        self.check_single()
        if self.top_logprobs:
            raise _no_alternatives("top_logprobs")
        self._check_arguments()
        return ChatRequest(
            messages=[message.model_dump(exclude_unset=True) for message in self.messages],
            tools=[tool.plain() for tool in self.tools or []],
            tool_choice=self._choice(),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            max_tokens=_smaller(self.max_tokens, self.max_completion_tokens),
            stop=self.stop_texts(),
            seed=self.seed,
            settings=self.settings(),
            with_token_texts=bool(self.logprobs),
        )

    def _check_arguments(self) -> None:
        """Refuse calls whose arguments, JSON within JSON, hold more values than a body may."""
        calls = [call.function.arguments for message in self.messages for call in message.tool_calls or ()]
        written = ",".join(arguments for arguments in calls if isinstance(arguments, str))
        if num_values_at_most(written.encode(), MOST_VALUES) is None:
            raise _too_many_values(MOST_VALUES, param="messages")

    def _choice(self) -> ToolChoice:
        if not isinstance(self.tool_choice, NamedChoice):
            return self.tool_choice or "auto"
        names = [tool.function.name for tool in self.tools or []]
        name = self.tool_choice.function.name
        if name not in names:
            message = f"tool_choice names {name!r}; the tools are {', '.join(names) or 'none'}."
            raise ApiError(400, message, code="invalid_value", param="tool_choice")
        return NamedTool(name)


class CompletionBody(SharedBody):
    """`/v1/completions`."""

    prompt: str | Listed[int] | Listed[str] | Listed[Listed[int]]
    logprobs: int | None = None

    def request(self) -> ChatRequest:
        """The request to the agent's model: a raw prompt, and the same as a message for those who only chat.

        Raises:
            ApiError: several prompts, an empty one, or settings that no agent gets.
        """
        self.check_single()
        if self.logprobs:
            raise _no_alternatives("logprobs")
        prompt = self._one_prompt()
        return ChatRequest(
            messages=[{"role": "user", "content": prompt}] if isinstance(prompt, str) else [],
            prompt=prompt,
            max_tokens=self.max_tokens,
            stop=self.stop_texts(),
            seed=self.seed,
            settings=self.settings(),
            with_token_texts=self.logprobs is not None,
        )

    def _one_prompt(self) -> str | tuple[int, ...]:
        prompt: Any = self.prompt
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            if len(prompt) > 1:
                raise ApiError(400, "One prompt a request.", code="unsupported_value", param="prompt")
            prompt = prompt[0]
        if not prompt:
            raise ApiError(400, "The prompt is empty.", code="invalid_value", param="prompt")
        return prompt if isinstance(prompt, str) else tuple(prompt)


def read_body(kind: type[Body], body: bytes | bytearray, *, num_ids: int = 0) -> Body:
    """Parse and check a body.

    Args:
        kind: what it should be.
        body: JSON.
        num_ids: token ids that a raw prompt may hold.

    Raises:
        ApiError: no JSON, too many values, or a value of the wrong type.
    """
    most = MOST_VALUES + (num_ids if issubclass(kind, CompletionBody) else 0)
    if num_values_at_most(body, most) is None:
        raise _too_many_values(most)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _first_problem(error) from error


def num_values_at_most(text: bytes | bytearray, most: int) -> int | None:
    """At least the number of values in `text`, JSON or what passes for it; None if there are, or may be, more than
    `most`. Never too low for what a parser gets to see before it meets an error.

    Every value but the outermost stands behind a comma or an opening bracket, outside of strings.

    Example: `num_values_at_most(b'{"a, b": [1, 2]}', 9)` is 4.
    """
    # Escapes exist in strings alone. Without them every quotation mark begins or ends one.
    marks = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, delete=_DROPPED)
    if marks.count(b'"') > 2 * MOST_STRINGS:
        return None
    outside = b"".join(marks.split(b'"')[::2])
    num_values = 1 + len(outside)
    return num_values if num_values <= most else None


def _first_problem(problems: ValidationError) -> ApiError:
    first = problems.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    code = {"missing": "missing_required_parameter", "json_invalid": "invalid_json"}.get(first["type"], "invalid_type")
    return ApiError(400, f"{where}: {first['msg']}" if where else str(first["msg"]), code=code, param=where or None)


def _too_many_values(most: int, *, param: str | None = None) -> ApiError:
    return ApiError(400, f"The request holds more than {most} JSON values.", code="too_many_values", param=param)


def _no_alternatives(param: str) -> ApiError:
    message = f"{param}: the engine tells the log-probability of the sampled token alone, not of others; ask for 0."
    return ApiError(400, message, code="unsupported_value", param=param)


def _smaller(first: int | None, second: int | None) -> int | None:
    return min((bound for bound in (first, second) if bound is not None), default=None)
