#!/usr/bin/env python3
"""What two gateways on one Postgres and one Redis have in common.

    python3 check.py EMAIL PASSWORD UPSTREAM_HOST_PORT DATA_URL ADMIN_URL DATA_URL ADMIN_URL

Prints one line for each thing that holds and ends with 1 at the first that does not. Standard library only.
"""

import json
import pathlib
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sdk"))
import upstream  # noqa: E402

MODEL = "scripted/chat"


def call(method, url, body=None, token=None):
    """Status, headers and JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    if data is not None:
        request.add_header("content-type", "application/json")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


class Gateway:
    def __init__(self, data, admin):
        self.data, self.admin = data, admin

    def act(self, method, path, body=None, token=None):
        status, _, answer = call(method, self.admin + path, body, token)
        assert status in (200, 201, 204), f"{method} {path}: {status} {answer}"
        return answer

    def chat(self, key):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
        return call("POST", f"{self.data}/v1/chat/completions", body, key)


def within(seconds, what, look):
    """Asks again and again until `look` answers something true, and says how long that took."""
    begun = time.monotonic()
    while not (found := look()):
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found, time.monotonic() - begun


def hold(what):
    print(f"ok: {what}", flush=True)


def main(email, password, provider, *urls):
    one, two = Gateway(*urls[:2]), Gateway(*urls[2:])
    login = {"email": email, "password": password}
    token = one.act("POST", "/api/auth/login", login)["access_token"]
    two.act("GET", "/api/keys", token=token)
    hold("a session of one opens the other")

    # Each has read the house as it was before, so that the rest shows what they hear of one another.
    old = one.act("POST", "/api/virtual-keys", {"name": "before"}, token)["key"]
    for gateway in (one, two):
        status, _, answer = gateway.chat(old)
        assert status == 404, f"no provider yet: {status} {answer}"

    stored = {"provider": "scripted", "key_name": "main", "api_key": upstream.KEY, "base_url": f"http://{provider}/v1"}
    one.act("POST", "/api/keys", stored, token)
    price = {"model": MODEL, "input": 2_000_000, "output": 8_000_000, "max_output_tokens": 1000}
    one.act("PUT", "/api/prices", {"prices": [price]}, token)
    key = one.act("POST", "/api/virtual-keys", {"name": "check", "spend_cap_micro_usd": 10_000_000}, token)
    _, took = within(1, "the key on the other", lambda: two.chat(key["key"])[0] == 200)
    hold(f"a key, a provider key and a price of one work on the other after {took * 1000:.0f} ms")

    status, headers, answer = one.chat(key["key"])
    assert status == 200, answer
    hold(f"a chat through each, {headers['x-keystile-cost-micro-usd']} micro-USD")

    def spent(gateway):
        return gateway.act("GET", "/api/spend?group_by=key", token=token)["total"]

    def seen(gateway):
        total = spent(gateway)
        return total if total["requests"] == 2 else None

    total, _ = within(10, "spend of both on one", lambda: seen(one))
    assert total["cost_micro_usd"] > 0, total
    assert spent(two) == total, (spent(two), total)
    hold(f"spend of both is visible on either: {total['requests']} requests, {total['cost_micro_usd']} micro-USD")

    limited = one.act("POST", "/api/virtual-keys", {"name": "limited", "rate_limit_rpm": 5}, token)["key"]
    statuses = [gateway.chat(limited)[0] for _ in range(6) for gateway in (one, two)]
    assert statuses == [200] * 5 + [429] * 7, statuses
    hold("a limit of 5 requests a minute is granted once between them")

    one.act("POST", f"/api/virtual-keys/{key['id']}/revoke", {}, token)
    assert one.chat(key["key"])[0] == 401
    _, took = within(1, "the revocation on the other", lambda: two.chat(key["key"])[0] == 401)
    hold(f"a key that one revoked is refused by the other after {took * 1000:.0f} ms")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except AssertionError as error:
        sys.exit(f"failed: {error}")
