"""Keystile with the official OpenAI SDK for Python. Start a gateway that answers offline, and copy the key it prints:

    keystile serve --demo          (from a checkout: cargo run --release -- serve --demo)
    pip install openai
    KEYSTILE_KEY=ks_… python examples/clients/python.py

For a gateway elsewhere set KEYSTILE_BASE_URL, for another model KEYSTILE_MODEL.
"""

import os
import sys

import openai

key = os.environ.get("KEYSTILE_KEY") or sys.exit("set KEYSTILE_KEY to a virtual key (ks_…)")
model = os.environ.get("KEYSTILE_MODEL", "demo/keystile-chat")
client = openai.OpenAI(base_url=os.environ.get("KEYSTILE_BASE_URL", "http://127.0.0.1:8080/v1"), api_key=key)
messages = [{"role": "user", "content": "What is a virtual key?"}]

print("What this key may call:")
for available in client.models.list():
    print(" ", available.id)

# An answer in one piece. `models` are tried in order; the tags come back in the spend reports.
raw = client.chat.completions.with_raw_response.create(
    model=model,
    messages=messages,
    max_tokens=60,
    extra_body={"models": ["demo/no-such-model", model]},
    extra_headers={"x-keystile-tags": "example=python"},
)
print("\nIn one piece:\n", raw.parse().choices[0].message.content)
print(f"({raw.headers['x-keystile-model']}, {raw.headers['x-keystile-cost-micro-usd']} micro-dollars, {raw.request_id})")

# The same as it is written.
print("\nAs a stream:")
stream = client.chat.completions.create(
    model=model, messages=messages, max_tokens=20, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\n({chunk.usage.prompt_tokens} tokens in, {chunk.usage.completion_tokens} out)")

# A refusal is the SDK's own exception, with the gateway's code.
try:
    client.chat.completions.create(model="demo/no-such-model", messages=messages)
except openai.NotFoundError as error:
    print(f"\n{error.status_code} {error.code}: {error.message}")

standing = client.get("/key", cast_to=object)
print(f"\nspent {standing['spent_micro_usd']}, remaining {standing['remaining_micro_usd']} micro-dollars")
