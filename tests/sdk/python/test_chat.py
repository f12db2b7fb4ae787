"""Chat and legacy completions, whole and streamed."""

import asyncio
import os

import openai

from conftest import BASE_URL, PROMPT, TEXT, Key


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_demo_answers_the_key_it_printed(sdk):
    client = sdk.client(os.environ["KEYSTILE_KEY"])
    answer = sdk.run(client.chat.completions.create(model="demo/keystile-chat", messages=PROMPT, max_tokens=8))
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert len(client.sent) == 1


def test_the_demo_streams(sdk):
    client = sdk.client()
    stream = sdk.run(
        client.chat.completions.create(model="demo/keystile-chat", messages=PROMPT, max_tokens=8, stream=True)
    )
    chunks = sdk.items(stream)
    assert text_of(chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_an_answer_comes_as_the_provider_wrote_it(sdk, marker):
    key = Key()
    client = sdk.client(key)
    answer = sdk.run(
        client.chat.completions.create(
            model="scripted/chat",
            messages=PROMPT,
            user=marker.user,
            seed=9007199254740993,
            temperature=0.5,
            extra_body={"vendor_option": {"deep": [1, None, "ü"]}},
        )
    )
    assert answer.choices[0].message.content == TEXT
    assert answer.model == "chat"
    assert answer.system_fingerprint == "fp_scripted"
    assert answer.model_extra["vendor_extension"] == {"kept": True}
    assert answer.usage.prompt_tokens == 11
    assert answer.usage.prompt_tokens_details.cached_tokens == 0

    [note] = marker.received()
    assert note["body"] == {
        "model": "chat",
        "messages": PROMPT,
        "user": marker.user,
        "seed": 9007199254740993,
        "temperature": 0.5,
        "vendor_option": {"deep": [1, None, "ü"]},
    }
    assert note["headers"]["authorization"] == "the right key"
    assert not [name for name in note["headers"] if name.startswith("x-stainless")]

    row = key.one_row()
    assert (row["status"], row["outcome"], row["usage_source"]) == (200, "ok", "provider")
    assert (row["input_tokens"], row["output_tokens"], row["stream"]) == (11, 7, False)
    assert row["cost_micro_usd"] == 11 * 2 + 7 * 8


def test_a_model_name_may_have_slashes_of_its_own(sdk, marker):
    client = sdk.client()
    answer = sdk.run(
        client.chat.completions.create(model="scripted/org/chat", messages=PROMPT, user=marker.user)
    )
    assert answer.choices[0].message.content == TEXT
    assert marker.received()[0]["body"]["model"] == "org/chat"


def test_a_stream_without_usage_has_no_trace_of_it_and_is_metered_all_the_same(sdk, marker):
    key = Key()
    client = sdk.client(key)
    stream = sdk.run(
        client.chat.completions.create(model="scripted/chat", messages=PROMPT, user=marker.user, stream=True)
    )
    chunks = sdk.items(stream)
    assert text_of(chunks) == TEXT
    assert all(len(chunk.choices) == 1 for chunk in chunks), "chunks[n].choices[0] is safe"
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[0].to_dict()["obfuscation"] == "aZ3"
    assert marker.received()[0]["body"]["stream_options"] == {"include_usage": True}
    row = key.one_row()
    assert (row["outcome"], row["usage_source"], row["stream"]) == ("ok", "provider", True)
    assert (row["input_tokens"], row["output_tokens"]) == (11, 7)
    assert row["time_to_first_token_ms"] is not None


def test_a_stream_with_usage_ends_with_one_usage_chunk(sdk, marker):
    client = sdk.client()
    stream = sdk.run(
        client.chat.completions.create(
            model="scripted/chat",
            messages=PROMPT,
            user=marker.user,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *before, last = sdk.items(stream)
    assert text_of(before) == TEXT
    assert all(chunk.usage is None for chunk in before)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (11, 7)
    assert len(marker.received()) == 1


def test_the_demo_gives_usage_in_its_stream_too(sdk):
    client = sdk.client()
    stream = sdk.run(
        client.chat.completions.create(
            model="demo/keystile-chat",
            messages=PROMPT,
            max_completion_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *_, last = sdk.items(stream)
    assert last.usage.completion_tokens == 6


def test_the_stream_helper_puts_the_answer_together(sdk):
    client = sdk.client()
    events, final = sdk.helper(
        client.chat.completions.stream(
            model="scripted/chat", messages=PROMPT, stream_options={"include_usage": True}
        )
    )
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == TEXT
    assert [event.content for event in events if event.type == "content.done"] == [TEXT]
    assert final.choices[0].message.content == TEXT
    assert final.choices[0].finish_reason == "stop"
    assert final.usage.completion_tokens == 7


def test_legacy_completions(sdk):
    client = sdk.client()
    answer = sdk.run(client.completions.create(model="scripted/legacy", prompt="canary-body", max_tokens=50))
    assert answer.object == "text_completion"
    assert answer.choices[0].text == TEXT
    assert answer.usage.total_tokens == 10
    answer = sdk.run(client.completions.create(model="demo/keystile-chat", prompt="canary-body", max_tokens=4))
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 4


def test_legacy_completions_stream(sdk):
    client = sdk.client()
    stream = sdk.run(client.completions.create(model="scripted/legacy", prompt="canary-body", stream=True))
    chunks = sdk.items(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    stream = sdk.run(
        client.completions.create(
            model="scripted/legacy", prompt="canary-body", stream=True, stream_options={"include_usage": True}
        )
    )
    *_, last = sdk.items(stream)
    assert last.choices == []
    assert last.usage.completion_tokens == 7


def test_one_async_client_has_many_streams_at_once():
    key = Key()

    async def one(client, number):
        stream = await client.chat.completions.create(
            model="scripted/chat",
            messages=[{"role": "user", "content": f"canary-body {number}"}],
            stream=True,
        )
        return text_of([chunk async for chunk in stream])

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key=key.key) as client:
            return await asyncio.gather(*(one(client, number) for number in range(40)))

    assert asyncio.run(all_of_them()) == [TEXT] * 40
