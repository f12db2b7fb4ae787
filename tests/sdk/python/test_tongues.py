"""Providers that speak other words than their client: two turns of tools with thoughts in between, by every way round."""

import json

import anthropic
import openai
import pytest

from conftest import BASE_URL, PROMPT, TEXT, Key, eventually

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {key: {"type": "string"}}}}}
    for name, key in [("get_weather", "city"), ("get_time", "zone")]
]
CALLS = [("get_weather", {"city": "Reykjavík"}), ("get_time", {"zone": "Atlantic/Reykjavik"})]
THOUGHTS = ["First the weather.", "Then the time."]
MODELS = ["claudes/claude-sonnet-4-5", "geminis/gemini-3-pro-preview"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("streamed", [False, True])
def test_two_turns_of_tools_with_thoughts_through_openais_sdk(sdk, model, streamed):
    key = Key()
    client = sdk.client(key)
    messages = [*PROMPT]
    for (name, arguments), thought in zip(CALLS, THOUGHTS):
        asked = {"model": model, "messages": messages, "tools": TOOLS, "max_tokens": 4000, "reasoning_effort": "low"}
        if streamed:
            _, answer = sdk.helper(client.chat.completions.stream(**asked))
        else:
            answer = sdk.run(client.chat.completions.create(**asked))
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        message = choice.message
        assert message.reasoning_content == thought
        assert [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls] == [(name, arguments)]
        # The message goes back as the SDK has it.
        messages = [*messages, message.model_dump(exclude_none=True), {
            "role": "tool", "tool_call_id": message.tool_calls[0].id, "content": json.dumps({"answer": name})}]
    answer = sdk.run(client.chat.completions.create(model=model, messages=messages, tools=TOOLS, max_tokens=4000))
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 25
    rows = eventually(lambda: key.usage() if len(key.usage()) == 3 else None)
    assert rows, "three requests make three rows"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_has_its_text_and_its_usage(sdk, model):
    client = sdk.client()
    stream = sdk.run(
        client.chat.completions.create(
            model=model, messages=PROMPT, stream=True, stream_options={"include_usage": True}
        )
    )
    chunks = sdk.items(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert [c.usage.total_tokens for c in chunks if c.usage] == [34]


@pytest.mark.parametrize("model", MODELS)
def test_the_responses_api_reaches_every_provider(sdk, model):
    client = sdk.client()
    with_tools = [{"type": "function", **tool["function"], "strict": False} for tool in TOOLS]
    first = sdk.run(client.responses.create(model=model, input=PROMPT, tools=with_tools, max_output_tokens=4000))
    call = next(item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == CALLS[0]
    again = [*PROMPT, *[item.model_dump(exclude_none=True) for item in first.output],
             {"type": "function_call_output", "call_id": call.call_id, "output": "{}"}]
    second = sdk.run(client.responses.create(model=model, input=again, tools=with_tools, max_output_tokens=4000))
    assert next(item for item in second.output if item.type == "function_call").name == "get_time"
    assert sdk.run(client.responses.create(model=model, input="canary-body")).output_text == TEXT

    events = sdk.items(sdk.run(client.responses.create(model=model, input="canary-body", stream=True)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == TEXT
    assert [event.sequence_number for event in events] == list(range(len(events)))


class Claude:
    """Anthropic's SDK in one of its two forms, with a virtual key in its place."""

    def __init__(self, sdk, key=None):
        self.sdk = sdk
        kind = anthropic.AsyncAnthropic if sdk.is_async else anthropic.Anthropic
        self.client = kind(base_url=BASE_URL.removesuffix("/v1"), api_key=(key or Key()).key, max_retries=1)

    def create(self, **asked):
        return self.sdk.run(self.client.messages.create(**asked))

    def stream(self, **asked):
        def read(stream):
            if not self.sdk.is_async:
                return list(stream), stream.get_final_message()

            async def collect():
                return [event async for event in stream], await stream.get_final_message()

            return collect()

        return self.sdk.inside(self.client.messages.stream(**asked), read)


CLAUDE_TOOLS = [
    {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS
]


@pytest.mark.parametrize("model", ["claudes/claude-sonnet-4-5", "geminis/gemini-3-pro-preview"])
@pytest.mark.parametrize("streamed", [False, True])
def test_two_turns_of_tools_with_thoughts_through_anthropics_sdk(sdk, model, streamed):
    claude = Claude(sdk)
    messages = [*PROMPT]
    for name, arguments in CALLS:
        asked = {"model": model, "max_tokens": 4000, "messages": messages, "tools": CLAUDE_TOOLS}
        asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        answer = claude.stream(**asked)[1] if streamed else claude.create(**asked)
        assert answer.stop_reason == "tool_use"
        call = answer.content[-1]
        assert (call.type, call.name, call.input) == ("tool_use", name, arguments)
        assert any(block.type == "thinking" for block in answer.content)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "{}"}]}
        content = [block.model_dump(exclude_none=True) for block in answer.content]
        messages = [*messages, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
    answer = claude.create(model=model, max_tokens=4000, messages=messages, tools=CLAUDE_TOOLS)
    assert answer.content[-1].text == TEXT
    assert answer.stop_reason == "end_turn"


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropics_sdk_calls_the_tools_of_an_openai_provider(sdk, streamed):
    key = Key()
    claude = Claude(sdk, key)
    asked = {"model": "scripted/tools", "max_tokens": 500, "messages": PROMPT, "tools": CLAUDE_TOOLS}
    answer = claude.stream(**asked)[1] if streamed else claude.create(**asked)
    assert answer.stop_reason == "tool_use"
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == CALLS
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": word} for call, word in zip(calls, ["sunny", "noon"])]
    content = [block.model_dump(exclude_none=True) for block in answer.content]
    messages = [*PROMPT, {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    answer = claude.create(model="scripted/tools", max_tokens=500, messages=messages, tools=CLAUDE_TOOLS)
    assert answer.content[0].text == "It is sunny and noon."
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7)
    assert all(row["usage_source"] == "provider" for row in key.usage())


def test_anthropics_sdk_reads_a_stream_of_an_openai_provider(sdk):
    events, message = Claude(sdk).stream(model="scripted/chat", max_tokens=500, messages=PROMPT)
    assert message.content[0].text == TEXT
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (11, 7)
    assert events[0].type == "message_start"


def test_anthropics_sdk_raises_the_right_errors(sdk):
    claude = Claude(sdk)

    def fails(kind, client=claude, **more):
        asked = {"model": "claudes/claude-sonnet-4-5", "max_tokens": 10, "messages": PROMPT, **more}
        with pytest.raises(kind) as raised:
            client.create(**asked)
        error = raised.value.body
        assert error["type"] == "error" and error["error"]["message"], error
        return raised.value

    fails(anthropic.NotFoundError, model="claudes-unknown/x")
    fails(anthropic.BadRequestError, model="scripted/refuses-400")
    capped = fails(anthropic.APIStatusError, client=Claude(sdk, Key(spend_cap_micro_usd=0)))
    assert (capped.status_code, capped.body["error"]["type"]) == (402, "billing_error")
    stranger = Key()
    stranger.key = stranger.key[:-1] + ("a" if stranger.key[-1] != "a" else "b")
    fails(anthropic.AuthenticationError, client=Claude(sdk, stranger))


def test_a_stream_that_dies_raises_in_anthropics_sdk(sdk):
    with pytest.raises(anthropic.APIStatusError):
        Claude(sdk).stream(model="scripted/stream-dies", max_tokens=500, messages=PROMPT)


def test_tokens_are_counted(sdk):
    claude = Claude(sdk)
    counted = sdk.run(claude.client.messages.count_tokens(model="scripted/chat", messages=PROMPT))
    assert counted.input_tokens > 0


def test_models_are_listed_as_each_sdk_reads_them(sdk):
    assert isinstance(openai.__version__, str)
    listed = sdk.items(Claude(sdk).client.models.list())
    assert any(model.id.startswith("scripted/") for model in listed)
