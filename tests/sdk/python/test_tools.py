"""Tools and structured output, with the SDK's own helpers."""

import json

import openai
import pydantic
import pytest

from conftest import PROMPT

WEATHER = {"city": "Reykjavík"}
TIME = {"zone": "Atlantic/Reykjavik"}


class get_weather(pydantic.BaseModel):  # noqa: N801 (a tool is called what its class is called)
    """The weather of a city."""

    city: str


class get_time(pydantic.BaseModel):  # noqa: N801
    """The time of a zone."""

    zone: str


class Order(pydantic.BaseModel):
    item: str
    count: int


TOOLS = [openai.pydantic_function_tool(get_weather), openai.pydantic_function_tool(get_time)]


def names_and_arguments(calls):
    return [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls]


BOTH = [("call_a", "get_weather", WEATHER), ("call_b", "get_time", TIME)]


def test_tools_reach_the_model_and_its_calls_come_back(sdk, marker):
    client = sdk.client()
    answer = sdk.run(
        client.chat.completions.create(
            model="scripted/tools",
            messages=PROMPT,
            tools=TOOLS,
            tool_choice="auto",
            parallel_tool_calls=True,
            user=marker.user,
        )
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    assert names_and_arguments(message.tool_calls) == BOTH
    sent = marker.received()[0]["body"]
    assert sent["tools"] == json.loads(json.dumps(TOOLS))
    assert sent["parallel_tool_calls"] is True

    # Their results go the same way.
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": content}
        for call, content in zip(message.tool_calls, ["sunny", "noon"])
    ]
    answer = sdk.run(
        client.chat.completions.create(
            model="scripted/tools", messages=[*PROMPT, message, *results], tools=TOOLS, user=marker.user
        )
    )
    assert answer.choices[0].message.content == "It is sunny and noon."


@pytest.mark.parametrize("model", ["tools", "tools-by-turns"])
def test_parallel_calls_in_a_stream_are_told_apart_by_their_index(sdk, model):
    client = sdk.client()
    stream = sdk.run(
        client.chat.completions.create(
            model=f"scripted/{model}", messages=PROMPT, tools=TOOLS, stream=True
        )
    )
    calls = {}
    for chunk in sdk.items(stream):
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += delta.id or ""
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
    assert [(c["id"], c["name"], json.loads(c["arguments"])) for _, c in sorted(calls.items())] == BOTH


def test_the_stream_helper_puts_parallel_calls_together_and_parses_them(sdk):
    client = sdk.client()
    events, final = sdk.helper(
        client.chat.completions.stream(model="scripted/tools", messages=PROMPT, tools=TOOLS)
    )
    done = {e.name: e.parsed_arguments for e in events if e.type == "tool_calls.function.arguments.done"}
    assert done == {"get_weather": get_weather(**WEATHER), "get_time": get_time(**TIME)}
    calls = final.choices[0].message.tool_calls
    assert names_and_arguments(calls) == BOTH
    assert calls[0].function.parsed_arguments == get_weather(**WEATHER)
    assert final.choices[0].finish_reason == "tool_calls"


def test_parse_gives_an_object_of_the_schema(sdk, marker):
    client = sdk.client()
    answer = sdk.run(
        client.chat.completions.parse(
            model="scripted/structured", messages=PROMPT, response_format=Order, user=marker.user
        )
    )
    assert answer.choices[0].message.parsed == Order(item="Crème brûlée", count=2)
    asked = marker.received()[0]["body"]["response_format"]
    assert asked["json_schema"]["strict"] is True
    assert asked["json_schema"]["schema"]["additionalProperties"] is False


def test_parse_gives_parsed_tool_arguments(sdk):
    client = sdk.client()
    answer = sdk.run(client.chat.completions.parse(model="scripted/tools", messages=PROMPT, tools=TOOLS))
    calls = answer.choices[0].message.tool_calls
    assert [call.function.parsed_arguments for call in calls] == [get_weather(**WEATHER), get_time(**TIME)]


def test_the_stream_helper_parses_structured_output(sdk):
    client = sdk.client()
    events, final = sdk.helper(
        client.chat.completions.stream(model="scripted/structured", messages=PROMPT, response_format=Order)
    )
    assert final.choices[0].message.parsed == Order(item="Crème brûlée", count=2)
    assert [e.parsed for e in events if e.type == "content.done"] == [Order(item="Crème brûlée", count=2)]
