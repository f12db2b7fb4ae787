"""What every test needs: the SDK in both its forms, fresh virtual keys, and a look behind the gateway.

Each test that takes `sdk` runs twice, with the synchronous and with the asynchronous client. `sdk.run` waits for
whatever a call of either gives, so that a test is written once.
"""

import asyncio
import inspect
import json
import os
import time
import urllib.request
import uuid

import openai
import pytest

BASE_URL = os.environ["KEYSTILE_BASE_URL"]
ADMIN_URL = os.environ["SDK_ADMIN_URL"]
ADMIN_TOKEN = os.environ["SDK_ADMIN_TOKEN"]
UPSTREAM_URL = os.environ["SDK_UPSTREAM_URL"]

# What the scripted provider says and how it embeds; see `upstream.py`.
TEXT = "Grüße from the scripted provider: 日本語 and 🦀."
VECTOR = [0.5, -0.25, 0.125, -1.5]

# In every prompt: whoever finds it in a log or a database has found a leak.
PROMPT = [{"role": "user", "content": "canary-body: Größe? 日本"}]


def http_json(method, url, body=None, token=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    request.add_header("content-type", "application/json")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def admin(method, path, body=None):
    return http_json(method, ADMIN_URL + path, body, ADMIN_TOKEN)


def eventually(ask, seconds=10.0):
    """Asks until the answer is true; answers with it."""
    until = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer or time.monotonic() > until:
            return answer
        time.sleep(0.02)


class Key:
    """A virtual key of its own, so that its usage rows are a test's own."""

    def __init__(self, **limits):
        made = admin("POST", "/api/virtual-keys", {"name": f"sdk-{uuid.uuid4()}", **limits})
        self.id, self.key = made["id"], made["key"]

    def usage(self):
        return admin("GET", f"/api/usage?virtual_key_id={self.id}")["data"]

    def one_row(self):
        """The one usage row of this key. A row may follow the answer by a moment."""
        rows = eventually(self.usage)
        assert len(rows) == 1, rows
        return rows[0]


class Marker:
    """A name in a request's `user` field, by which the scripted provider tells what reached it."""

    def __init__(self):
        self.user = f"u-{uuid.uuid4()}"

    def received(self):
        return http_json("GET", f"{UPSTREAM_URL}/requests/{self.user}")


class Sdk:
    """The SDK in one of its two forms."""

    def __init__(self, is_async):
        self.is_async = is_async
        self.loop = asyncio.new_event_loop() if is_async else None
        self.clients = []

    def client(self, key=None, **options):
        """A client that counts its requests in `client.sent`, retries included."""
        sent = []
        options.setdefault("max_retries", 2)
        if self.is_async:

            async def count(request):
                sent.append(request)

            http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [count]})
            client_type = openai.AsyncOpenAI
        else:
            http = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
            client_type = openai.OpenAI
        api_key = key.key if isinstance(key, Key) else key or Key().key
        client = client_type(base_url=BASE_URL, api_key=api_key, http_client=http, **options)
        client.sent = sent
        self.clients.append(client)
        return client

    def run(self, value):
        """The result of a call."""
        if inspect.isawaitable(value):
            return self.loop.run_until_complete(_await(value))
        return value

    def items(self, stream):
        """Everything a stream or a page gives."""
        if not self.is_async:
            return list(stream)

        async def collect():
            return [item async for item in stream]

        return self.run(collect())

    def first(self, stream, count):
        """The first items of a stream, which stays open."""
        if not self.is_async:
            iterator = iter(stream)
            return [next(iterator) for _ in range(count)]

        async def collect():
            iterator = stream.__aiter__()
            return [await iterator.__anext__() for _ in range(count)]

        return self.run(collect())

    def close(self, stream):
        """Hangs up."""
        return self.run(stream.close())

    def inside(self, manager, body):
        """`with manager as it: body(it)`, where `body` may give something to wait for."""
        if not self.is_async:
            with manager as it:
                return body(it)

        async def enter():
            async with manager as it:
                result = body(it)
                return await result if inspect.isawaitable(result) else result

        return self.run(enter())

    def helper(self, manager):
        """All events of a `.stream()` helper, and what it has made of them."""

        def read(stream):
            if not self.is_async:
                return list(stream), stream.get_final_completion()

            async def collect():
                events = [event async for event in stream]
                return events, await stream.get_final_completion()

            return collect()

        return self.inside(manager, read)

    def fails(self, error_type, call, *args, **kwargs):
        """The error that a call raises."""
        with pytest.raises(error_type) as raised:
            self.run(call(*args, **kwargs))
        assert type(raised.value) is error_type, repr(raised.value)
        return raised.value

    def finish(self):
        for client in self.clients:
            self.run(client.close())
        if self.loop:
            self.loop.close()


async def _await(value):
    return await value


@pytest.fixture(params=["sync", "async"])
def sdk(request):
    sdk = Sdk(is_async=request.param == "async")
    yield sdk
    sdk.finish()


@pytest.fixture
def marker():
    return Marker()
