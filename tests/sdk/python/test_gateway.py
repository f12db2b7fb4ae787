"""What the gateway adds, within an SDK's reach: headers, request ids, fallbacks, tags, and clients that leave."""

import json
import urllib.request

import openai
import pytest

from conftest import BASE_URL, PROMPT, TEXT, Key, admin, eventually


def test_the_request_id_is_the_one_in_the_ledger(sdk):
    key = Key()
    client = sdk.client(key)
    answer = sdk.run(
        client.chat.completions.create(
            model="scripted/chat", messages=PROMPT, extra_headers={"x-request-id": "mine"}
        )
    )
    assert answer._request_id.startswith("req_")
    assert key.one_row()["request_id"] == answer._request_id
    explained = admin("GET", f"/api/usage/{answer._request_id}/explain")
    assert explained["cost_micro_usd"] == 78
    [attempt] = explained["attempts"]
    assert (attempt["provider"], attempt["model"], attempt["status"]) == ("scripted", "chat", 200)


def test_raw_responses_show_the_gateways_headers(sdk):
    client = sdk.client()
    raw = sdk.run(
        client.chat.completions.with_raw_response.create(model="scripted/org/chat", messages=PROMPT)
    )
    assert raw.headers["x-keystile-provider"] == "scripted"
    assert raw.headers["x-keystile-model"] == "scripted/org/chat"
    assert raw.headers["x-keystile-attempts"] == "1"
    assert float(raw.headers["x-keystile-cost-micro-usd"]) == 78
    assert raw.request_id == raw.headers["x-request-id"]
    assert sdk.run(raw.parse()).choices[0].message.content == TEXT


def test_raw_streams_show_them_too(sdk):
    client = sdk.client()
    raw = sdk.run(
        client.chat.completions.with_raw_response.create(model="scripted/chat", messages=PROMPT, stream=True)
    )
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-keystile-model"] == "scripted/chat"
    assert raw.headers["x-keystile-attempts"] == "1"
    chunks = sdk.items(sdk.run(raw.parse()))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT


def test_streaming_responses_pass_line_by_line(sdk):
    client = sdk.client()

    def read(response):
        assert response.headers["x-keystile-provider"] == "scripted"
        if not sdk.is_async:
            return list(response.iter_lines())

        async def collect():
            return [line async for line in response.iter_lines()]

        return collect()

    lines = sdk.inside(
        client.chat.completions.with_streaming_response.create(
            model="scripted/chat", messages=PROMPT, stream=True
        ),
        read,
    )
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]"
    assert not [line for line in lines if line.startswith(("id:", "event:"))]


@pytest.mark.parametrize("stream", [False, True])
def test_the_models_array_is_tried_in_order(sdk, marker, stream):
    # Models of this test's own: what has failed before rests, and would come last.
    broken, locked = f"scripted/fails-500~{marker.user}", f"locked/chat~{marker.user}"
    key = Key()
    client = sdk.client(key)
    raw = sdk.run(
        client.chat.completions.with_raw_response.create(
            model=broken,
            messages=PROMPT,
            user=marker.user,
            stream=stream,
            extra_body={"models": [broken, locked, "scripted/chat"]},
        )
    )
    assert raw.headers["x-keystile-model"] == "scripted/chat"
    assert raw.headers["x-keystile-attempts"] == "3"
    answer = sdk.run(raw.parse())
    if stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in sdk.items(answer)) == TEXT
    else:
        assert answer.choices[0].message.content == TEXT
    received = [note["body"] for note in marker.received()]
    assert [f"scripted/{received[0]['model']}", f"locked/{received[1]['model']}"] == [broken, locked]
    assert received[2]["model"] == "chat"
    assert not [body for body in received if "models" in body]
    assert len(client.sent) == 1
    row = key.one_row()
    assert (row["requested_model"], row["served_model"], row["attempts"]) == (
        broken,
        "scripted/chat",
        3,
    )


def test_a_keys_fallbacks_need_nothing_from_the_client(sdk):
    client = sdk.client(Key(fallback_models=["scripted/chat"]))
    answer = sdk.run(client.chat.completions.create(model="scripted/stream-error-first", messages=PROMPT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in sdk.items(answer)) == TEXT


def test_tags_of_key_and_request_meet_in_the_ledger(sdk):
    key = Key(tags={"team": "search", "run": "0"})
    client = sdk.client(key)
    sdk.run(
        client.chat.completions.create(
            model="scripted/chat", messages=PROMPT, extra_headers={"x-keystile-tags": "run=42, stage=dev"}
        )
    )
    assert key.one_row()["tags"] == {"team": "search", "run": "42", "stage": "dev"}
    client = sdk.client(key, default_headers={"x-keystile-tags": "no pairs"})
    error = sdk.fails(
        openai.BadRequestError, client.chat.completions.create, model="scripted/chat", messages=PROMPT
    )
    assert (error.code, error.param) == ("invalid_request", "x-keystile-tags")


def test_a_cancelled_stream_leaves_one_row(sdk, marker):
    key = Key()
    client = sdk.client(key)
    stream = sdk.run(
        client.chat.completions.create(model="scripted/slow", messages=PROMPT, user=marker.user, stream=True)
    )
    chunks = sdk.first(stream, 4)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("word0 ")
    sdk.close(stream)
    row = key.one_row()
    assert (row["outcome"], row["usage_source"], row["status"]) == ("client_gone", "estimated", 200)
    assert row["input_tokens"] > 0 and row["output_tokens"] > 0
    assert row["cost_micro_usd"] > 0
    ended = eventually(lambda: marker.received()[0].get("ended"), seconds=3)
    assert ended == "caller left", "the provider is told"
    assert len(client.sent) == len(key.usage()) == 1
    view = admin("GET", f"/api/virtual-keys/{key.id}")
    assert view["reserved_micro_usd"] == 0


def test_a_stream_that_is_left_in_its_with_block_is_cancelled(sdk, marker):
    key = Key()
    client = sdk.client(key)

    def leave(stream):
        return None if not sdk.is_async else _first(stream)

    sdk.inside(
        client.chat.completions.stream(model="scripted/slow", messages=PROMPT, user=marker.user), leave
    )
    assert key.one_row()["outcome"] == "client_gone"
    assert eventually(lambda: marker.received()[0].get("ended"), seconds=3) == "caller left"


async def _first(stream):
    async for _ in stream:
        return


def test_a_whole_answer_is_metered_though_its_client_has_left(sdk, marker):
    key = Key()
    client = sdk.client(key, timeout=0.5, max_retries=0)
    sdk.fails(
        openai.APITimeoutError,
        client.chat.completions.create,
        model="scripted/slow-whole",
        messages=PROMPT,
        user=marker.user,
    )
    row = key.one_row()
    assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("provider", 11, 7)
    assert marker.received()[0]["ended"] == "answered"


def test_a_key_sees_its_own_standing(sdk):
    key = Key(spend_cap_micro_usd=1_000_000, spend_window="daily")
    client = sdk.client(key)
    sdk.run(client.chat.completions.create(model="scripted/chat", messages=PROMPT))
    # There is no method for it in the SDK; its general one does.
    standing = sdk.run(client.get("/key", cast_to=object))
    assert standing["spent_micro_usd"] == 78
    assert standing["remaining_micro_usd"] == 1_000_000 - 78
    assert standing["window_resets_at"].endswith("Z")


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_the_key_may_come_in_other_headers(header):
    request = urllib.request.Request(f"{BASE_URL}/models", headers={header: Key().key})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["object"] == "list"


def test_the_azure_client_finds_its_way_or_is_told(sdk):
    """Azure's habit of putting the model into the path is not ours: it gets a clear 404, not a puzzle."""
    client_type = openai.AsyncAzureOpenAI if sdk.is_async else openai.AzureOpenAI
    client = client_type(base_url=BASE_URL, api_key=Key().key, api_version="2026-01-01")
    sdk.clients.append(client)
    error = sdk.fails(
        openai.NotFoundError, client.chat.completions.create, model="scripted/chat", messages=PROMPT
    )
    assert error.code == "unknown_path"
