"""Embeddings and models."""

import os

import openai
import pytest

from conftest import VECTOR, Key


def length(vector):
    return sum(number * number for number in vector) ** 0.5


def test_embeddings_are_right_though_the_sdk_asks_for_base64(sdk, marker):
    key = Key()
    client = sdk.client(key)
    answer = sdk.run(
        client.embeddings.create(model="scripted/embed", input=["canary-body", "b"], user=marker.user)
    )
    assert [item.embedding for item in answer.data] == [VECTOR, VECTOR]
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 5
    assert marker.received()[0]["body"]["encoding_format"] == "base64"
    row = key.one_row()
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (5, 0, "provider")


def test_embeddings_as_floats(sdk):
    client = sdk.client()
    answer = sdk.run(client.embeddings.create(model="scripted/embed", input="canary-body", encoding_format="float"))
    assert answer.data[0].embedding == VECTOR


def test_a_provider_that_gives_floats_for_base64_is_understood(sdk):
    client = sdk.client()
    answer = sdk.run(client.embeddings.create(model="scripted/embed-floats", input="canary-body"))
    assert answer.data[0].embedding == VECTOR


def test_the_demo_embeds_the_same_in_both_encodings(sdk):
    client = sdk.client()
    packed = sdk.run(client.embeddings.create(model="demo/keystile-embed", input="canary-body"))
    floats = sdk.run(
        client.embeddings.create(model="demo/keystile-embed", input="canary-body", encoding_format="float")
    )
    assert len(packed.data[0].embedding) == 256
    assert packed.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)
    assert length(packed.data[0].embedding) == pytest.approx(1, abs=1e-3)
    small = sdk.run(client.embeddings.create(model="demo/keystile-embed", input=[[1, 2, 3]], dimensions=8))
    assert len(small.data[0].embedding) == 8


def test_models_are_what_this_key_may_call(sdk):
    client = sdk.client(os.environ["KEYSTILE_KEY"])
    models = sdk.items(client.models.list())
    by_id = {model.id: model for model in models}
    assert {"demo/keystile-chat", "demo/keystile-embed", "scripted/chat", "scripted/org/chat"} <= set(by_id)
    demo = by_id["demo/keystile-chat"]
    assert (demo.object, demo.owned_by) == ("model", "demo")
    assert isinstance(demo.created, int)
    assert demo.model_extra["context_window"] == 128_000

    client = sdk.client(Key(models_allowed=["scripted/org/chat", "demo/*"]))
    ids = [model.id for model in sdk.items(client.models.list())]
    assert sorted(ids) == ["demo/keystile-chat", "demo/keystile-embed", "scripted/org/chat"]


def test_a_model_is_retrieved_by_a_name_with_slashes(sdk):
    client = sdk.client()
    for name in ["demo/keystile-chat", "scripted/org/chat"]:
        assert sdk.run(client.models.retrieve(name)).id == name
    error = sdk.fails(openai.NotFoundError, client.models.retrieve, "demo/nothing")
    assert error.code == "model_not_found"
