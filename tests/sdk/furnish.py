#!/usr/bin/env python3
"""Makes a gateway that was started with `serve --demo` ready for the tests, through its admin API.

    python3 furnish.py DEMO_OUTPUT UPSTREAM_HOST_PORT

Reads from what `serve --demo` printed where it listens and who may administer it, stores provider keys for the scripted
provider (one that it takes, one that it refuses), sets prices, and prints what the suites need as lines of
`NAME=value` for a shell. Standard library only.
"""

import json
import re
import sys
import urllib.request

import upstream

WRONG_KEY = "sk-wrong-0123456789abcdefghijklmn"


def call(method, url, body, token=None):
    request = urllib.request.Request(url, json.dumps(body).encode(), method=method)
    request.add_header("content-type", "application/json")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def main(demo_output, address):
    with open(demo_output, encoding="utf-8") as file:
        text = file.read()

    def printed(pattern):
        return re.search(pattern, text)[1]

    base_url = printed(r'base_url="([^"]+)"')
    key = printed(r'api_key="([^"]+)"')
    login_url = printed(r"curl (http\S+/api/auth/login)")
    credentials = json.loads(printed(r"""-d '(\{"email".*\})'"""))

    admin = login_url.removesuffix("/api/auth/login")
    token = call("POST", login_url, credentials)["access_token"]
    for provider, api_key, path, more in [
        ("scripted", upstream.KEY, "v1", {}),
        ("locked", WRONG_KEY, "v1", {}),
        ("claudes", upstream.KEY, "v1", {"dialect": "anthropic"}),
        ("geminis", upstream.KEY, "v1beta", {"dialect": "gemini"}),
    ]:
        stored = {"provider": provider, "key_name": provider, "api_key": api_key, "base_url": f"http://{address}/{path}"}
        call("POST", f"{admin}/api/keys", {**stored, **more}, token)
    # The others stay without a price, which only keys with a cap mind.
    prices = [
        {"model": f"scripted/{model}", "input": 2_000_000, "output": 8_000_000, "max_output_tokens": 1000}
        for model in ["chat", "org/chat", "slow", "tools", "structured"]
    ]
    call("PUT", f"{admin}/api/prices", {"prices": prices}, token)
    print(f"KEYSTILE_BASE_URL={base_url}")
    print(f"KEYSTILE_KEY={key}")
    print(f"SDK_ADMIN_URL={admin}")
    print(f"SDK_ADMIN_TOKEN={token}")
    print(f"SDK_UPSTREAM_URL=http://{address}")


if __name__ == "__main__":
    main(*sys.argv[1:])
