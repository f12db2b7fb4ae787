"""Every refusal arrives as the exception an application catches, with its code, and is retried only where that helps."""

import openai
import pytest

from conftest import PROMPT, Key, eventually



def fails(sdk, error_type, client, model, **more):
    asked = {"model": model, "messages": PROMPT, **more}
    error = sdk.fails(error_type, client.chat.completions.create, **asked)
    if isinstance(error, openai.APIStatusError):
        assert error.request_id and error.request_id == error.response.headers["x-request-id"]
        assert error.body["message"] in str(error)
    return error


# Refusals of the gateway's own


def test_401_for_a_key_that_nobody_has(sdk):
    shapes = [
        "ks_wrong",
        "sk-proj-an-openai-key",
        # Well formed, and unknown.
        "ks_Sz8wxUlX1X8Q_KTZyaJLvmHKwGpBn5J7LaGR1dciwegbPXEhjUpFcvdO34SzqR",
    ]
    for key in shapes:
        client = sdk.client(key)
        error = fails(sdk, openai.AuthenticationError, client, "scripted/chat")
        assert (error.status_code, error.code) == (401, "invalid_api_key")
        assert key not in str(error)
        assert len(client.sent) == 1
        assert sdk.fails(openai.AuthenticationError, lambda: sdk.items(client.models.list()))


def test_402_when_the_cap_is_reached_and_nobody_tries_again(sdk, marker):
    key = Key(spend_cap_micro_usd=0)
    client = sdk.client(key)
    for stream in [False, True]:
        client.sent.clear()
        error = fails(
            sdk, openai.APIStatusError, client, "scripted/chat", user=marker.user, stream=stream, max_tokens=10
        )
        assert (error.status_code, error.code, error.type) == (402, "spend_cap_reached", "billing_error")
        assert error.response.headers["x-keystile-cap-micro-usd"] == "0"
        assert error.response.headers["x-keystile-spent-micro-usd"] == "0"
        assert len(client.sent) == 1
    assert marker.received() == []
    assert key.usage() == [], "a refused request makes no usage row"


def test_a_cap_that_runs_out_says_what_was_spent(sdk, marker):
    # One answer costs 78; a request may cost more than that before it is sent.
    key = Key(spend_cap_micro_usd=2000)
    client = sdk.client(key)
    asked = {"user": marker.user, "max_tokens": 20}
    for _ in range(40):
        try:
            sdk.run(client.chat.completions.create(model="scripted/chat", messages=PROMPT, **asked))
        except openai.APIStatusError as error:
            assert (error.status_code, error.code) == (402, "spend_cap_reached")
            spent = float(error.response.headers["x-keystile-spent-micro-usd"])
            break
    else:
        pytest.fail("the cap never held")
    answered = len(marker.received())
    assert answered > 0
    assert spent == 78 * answered <= 2000
    assert len(client.sent) == answered + 1
    assert eventually(lambda: len(key.usage()) == answered)


def test_403_for_a_model_outside_the_allow_list(sdk, marker):
    client = sdk.client(Key(models_allowed=["demo/keystile-chat"]))
    error = fails(sdk, openai.PermissionDeniedError, client, "scripted/chat", user=marker.user)
    assert (error.status_code, error.code, error.param) == (403, "model_not_allowed", "model")
    assert "scripted/chat" in error.message
    assert len(client.sent) == 1
    assert marker.received() == []


def test_403_for_a_capped_key_and_a_model_without_a_price(sdk):
    client = sdk.client(Key(spend_cap_micro_usd=1_000_000))
    error = fails(sdk, openai.PermissionDeniedError, client, "scripted/slow-whole")
    assert error.code == "model_unpriced"


def test_404_for_a_model_that_nobody_has(sdk):
    client = sdk.client()
    for model in ["no-such-model", "nobody/gpt", "demo/no-such-model"]:
        error = fails(sdk, openai.NotFoundError, client, model)
        assert (error.status_code, error.code, error.param) == (404, "model_not_found", "model")
        assert model in error.message
    assert len(client.sent) == 3


def test_404_for_a_base_url_without_v1_names_the_right_one(sdk):
    client = sdk.client()
    client = client.with_options(base_url=str(client.base_url).replace("/v1", ""))
    error = fails(sdk, openai.NotFoundError, client, "scripted/chat")
    assert error.code == "unknown_path"
    assert "/v1" in error.message


def test_400_for_a_body_that_would_redirect_the_request(sdk):
    client = sdk.client()
    extra_body = {"api_base": "http://127.0.0.1:1"}
    error = fails(sdk, openai.BadRequestError, client, "scripted/chat", extra_body=extra_body)
    assert (error.code, error.param) == ("forbidden_parameter", "api_base")
    assert len(client.sent) == 1


def test_400_for_no_model(sdk):
    client = sdk.client()
    error = fails(sdk, openai.BadRequestError, client, "")
    assert (error.code, error.param) == ("missing_model", "model")


def test_413_for_a_body_that_is_too_large(sdk):
    client = sdk.client()
    messages = [{"role": "user", "content": "x" * (21 << 20)}]
    error = fails(sdk, openai.APIStatusError, client, "scripted/chat", messages=messages)
    assert (error.status_code, error.code) == (413, "request_too_large")
    assert len(client.sent) == 1


def test_401_arrives_though_a_large_body_was_still_on_its_way(sdk):
    client = sdk.client("ks_wrong")
    messages = [{"role": "user", "content": "x" * (12 << 20)}]
    error = fails(sdk, openai.AuthenticationError, client, "scripted/chat", messages=messages)
    assert error.code == "invalid_api_key"
    assert len(client.sent) == 1


def test_429_of_the_key_says_when_to_come_back(sdk, marker):
    client = sdk.client(Key(rate_limit_rpm=1), max_retries=0)
    sdk.run(client.chat.completions.create(model="scripted/chat", messages=PROMPT, user=marker.user))
    error = fails(sdk, openai.RateLimitError, client, "scripted/chat", user=marker.user)
    assert (error.status_code, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert len(marker.received()) == 1


# The provider's


def test_a_providers_400_keeps_its_words(sdk, marker):
    key = Key()
    client = sdk.client(key)
    error = fails(sdk, openai.BadRequestError, client, "scripted/refuses-400", user=marker.user, temperature=9)
    assert (error.code, error.param, error.type) == ("unsupported_value", "temperature", "invalid_request_error")
    assert "does not support 9" in error.message
    assert error.body["provider"] == "scripted"
    assert len(client.sent) == len(marker.received()) == 1
    row = key.one_row()
    assert (row["status"], row["outcome"], row["output_tokens"]) == (400, "rejected", 0)
    assert row["request_id"] == error.request_id


def test_a_providers_404_keeps_its_words(sdk, marker):
    client = sdk.client()
    error = fails(sdk, openai.NotFoundError, client, "scripted/missing-404", user=marker.user)
    assert (error.code, error.body["provider"]) == ("model_not_found", "scripted")
    assert len(marker.received()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_provider_key_is_not_the_clients_fault_and_not_retried(sdk, marker, stream):
    client = sdk.client()
    error = fails(sdk, openai.InternalServerError, client, "locked/chat", user=marker.user, stream=stream)
    assert (error.status_code, error.code) == (502, "provider_key_rejected")
    assert error.response.headers["x-should-retry"] == "false"
    assert error.body["provider_status"] == 401
    assert "sk-wrong" not in error.response.text
    assert len(client.sent) == len(marker.received()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_429_is_retried_when_it_says_so(sdk, marker, stream):
    key = Key()
    client = sdk.client(key)
    answer = sdk.run(
        client.chat.completions.create(
            model="scripted/limited-once", messages=PROMPT, user=marker.user, stream=stream
        )
    )
    assert (sdk.items(answer) if stream else answer.choices)
    assert len(client.sent) == len(marker.received()) == 2
    assert client.sent[1].headers["x-stainless-retry-count"] == "1"
    assert eventually(lambda: [row["status"] for row in key.usage()] in ([200, 429], [429, 200]))


def test_a_providers_429_arrives_with_its_retry_after(sdk, marker):
    client = sdk.client(max_retries=0)
    error = fails(sdk, openai.RateLimitError, client, "scripted/limited", user=marker.user)
    assert (error.code, error.body["provider_status"]) == ("upstream_rate_limited", 429)
    assert error.response.headers["retry-after"] == "1"


def test_a_429_about_money_is_not_retried(sdk, marker):
    client = sdk.client()
    error = fails(sdk, openai.RateLimitError, client, "scripted/unpaid", user=marker.user)
    assert (error.status_code, error.code) == (429, "upstream_rate_limited")
    assert error.response.headers["x-should-retry"] == "false"
    assert len(client.sent) == len(marker.received()) == 1


@pytest.mark.parametrize(
    ("model", "status", "provider_status"),
    [("fails-500", 502, 500), ("fails-503", 503, 503), ("page-502", 502, 502)],
)
def test_a_broken_provider_is_tried_again_by_the_sdk_and_then_reported(sdk, marker, model, status, provider_status):
    client = sdk.client(max_retries=1)
    error = fails(sdk, openai.InternalServerError, client, f"scripted/{model}", user=marker.user)
    assert (error.status_code, error.code) == (status, "upstream_error")
    assert error.body["provider_status"] == provider_status
    assert "<html>" not in error.response.text
    assert len(client.sent) == len(marker.received()) == 2


# Streams that end badly


def stream_until_error(sdk, client, model, marker):
    """The text before the error, and the error."""
    stream = sdk.run(
        client.chat.completions.create(
            model=f"scripted/{model}", messages=PROMPT, user=marker.user, stream=True
        )
    )
    text = []
    with pytest.raises(openai.APIError) as raised:
        while True:
            [chunk] = sdk.first(stream, 1)
            text.append(chunk.choices[0].delta.content or "")
    assert type(raised.value) is openai.APIError
    return "".join(text), raised.value


@pytest.mark.parametrize(
    ("model", "code"),
    [("stream-error", "engine_fell_over"), ("stream-dies", "upstream_error"), ("stream-stops-short", "upstream_error")],
)
def test_a_stream_that_breaks_raises_after_what_came(sdk, marker, model, code):
    key = Key()
    client = sdk.client(key)
    text, error = stream_until_error(sdk, client, model, marker)
    assert text == "So far so "
    assert error.code == code
    assert error.type == "server_error"
    assert len(client.sent) == len(marker.received()) == 1, "words that were said are not said twice"
    row = key.one_row()
    assert (row["outcome"], row["usage_source"], row["status"]) == ("upstream_error", "estimated", 200)


def test_a_stream_that_begins_with_an_error_is_a_status_error(sdk, marker):
    client = sdk.client(max_retries=0)
    error = fails(
        sdk, openai.InternalServerError, client, "scripted/stream-error-first", user=marker.user, stream=True
    )
    assert (error.status_code, error.code) == (502, "upstream_error")
    assert "Overloaded." in error.message


def test_the_stream_helper_raises_too(sdk, marker):
    client = sdk.client()
    with pytest.raises(openai.APIError) as raised:
        sdk.helper(client.chat.completions.stream(model="scripted/stream-dies", messages=PROMPT))
    assert raised.value.code == "upstream_error"
