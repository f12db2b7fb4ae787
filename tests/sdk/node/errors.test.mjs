// Every refusal arrives as the error an application catches, with its code, and is retried only where that helps.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI, { APIError } from 'openai';

import { BASE_URL, Key, Marker, PROMPT, client, eventually, fails } from './house.mjs';

const ask = (openai, model, more = {}) =>
  openai.chat.completions.create({ model, messages: PROMPT, ...more });

// Refusals of the gateway's own

test('401 for a key that nobody has', async () => {
  const wellFormed = 'ks_Sz8wxUlX1X8Q_KTZyaJLvmHKwGpBn5J7LaGR1dciwegbPXEhjUpFcvdO34SzqR';
  for (const key of ['ks_wrong', 'sk-proj-an-openai-key', wellFormed]) {
    const openai = await client(key);
    const error = await fails(OpenAI.AuthenticationError, ask(openai, 'scripted/chat'));
    assert.deepEqual([error.status, error.code], [401, 'invalid_api_key']);
    assert.ok(!error.message.includes(key));
    assert.equal(openai.sent.length, 1);
  }
});

test('402 when the cap is reached and nobody tries again', async () => {
  const [key, marker] = [await Key.make({ spend_cap_micro_usd: 0 }), new Marker()];
  for (const stream of [false, true]) {
    const openai = await client(key);
    const error = await fails(APIError, ask(openai, 'scripted/chat', { user: marker.user, max_tokens: 10, stream }));
    assert.deepEqual([error.status, error.code, error.type], [402, 'spend_cap_reached', 'billing_error']);
    assert.equal(error.headers.get('x-keystile-cap-micro-usd'), '0');
    assert.equal(openai.sent.length, 1);
  }
  assert.deepEqual(await marker.received(), []);
  assert.deepEqual(await key.usage(), [], 'a refused request makes no usage row');
});

test('403 for a model outside the allow-list', async () => {
  const [openai, marker] = [await client(await Key.make({ models_allowed: ['demo/keystile-chat'] })), new Marker()];
  const error = await fails(OpenAI.PermissionDeniedError, ask(openai, 'scripted/chat', { user: marker.user }));
  assert.deepEqual([error.status, error.code, error.param], [403, 'model_not_allowed', 'model']);
  assert.equal(openai.sent.length, 1);
  assert.deepEqual(await marker.received(), []);
});

test('403 for a capped key and a model without a price', async () => {
  const openai = await client(await Key.make({ spend_cap_micro_usd: 1_000_000 }));
  const error = await fails(OpenAI.PermissionDeniedError, ask(openai, 'scripted/slow-whole'));
  assert.equal(error.code, 'model_unpriced');
});

test('404 for a model that nobody has', async () => {
  const openai = await client();
  for (const model of ['no-such-model', 'nobody/gpt', 'demo/no-such-model']) {
    const error = await fails(OpenAI.NotFoundError, ask(openai, model));
    assert.deepEqual([error.status, error.code, error.param], [404, 'model_not_found', 'model']);
  }
  assert.equal(openai.sent.length, 3);
});

test('404 for a base URL without /v1 names the right one', async () => {
  const openai = await client(undefined, { baseURL: BASE_URL.replace('/v1', '') });
  const error = await fails(OpenAI.NotFoundError, ask(openai, 'scripted/chat'));
  assert.equal(error.code, 'unknown_path');
  assert.match(error.message, /\/v1/);
});

test('400 for a body that would redirect the request, and for no model', async () => {
  const openai = await client();
  let error = await fails(OpenAI.BadRequestError, ask(openai, 'scripted/chat', { api_base: 'http://127.0.0.1:1' }));
  assert.deepEqual([error.code, error.param], ['forbidden_parameter', 'api_base']);
  error = await fails(OpenAI.BadRequestError, ask(openai, ''));
  assert.deepEqual([error.code, error.param], ['missing_model', 'model']);
  assert.equal(openai.sent.length, 2);
});

test('413 for a body that is too large', async () => {
  const openai = await client();
  const messages = [{ role: 'user', content: 'x'.repeat(21 << 20) }];
  const error = await fails(APIError, ask(openai, 'scripted/chat', { messages }));
  assert.deepEqual([error.status, error.code], [413, 'request_too_large']);
  assert.equal(openai.sent.length, 1);
});

test('401 arrives though a large body was still on its way', async () => {
  const openai = await client('ks_wrong');
  const messages = [{ role: 'user', content: 'x'.repeat(12 << 20) }];
  const error = await fails(OpenAI.AuthenticationError, ask(openai, 'scripted/chat', { messages }));
  assert.equal(error.code, 'invalid_api_key');
  assert.equal(openai.sent.length, 1);
});

test('429 of the key says when to come back', async () => {
  const openai = await client(await Key.make({ rate_limit_rpm: 1 }), { maxRetries: 0 });
  await ask(openai, 'scripted/chat');
  const error = await fails(OpenAI.RateLimitError, ask(openai, 'scripted/chat'));
  assert.deepEqual([error.status, error.code, error.type], [429, 'rate_limit_exceeded', 'rate_limit_error']);
  const seconds = Number(error.headers.get('retry-after'));
  assert.ok(seconds >= 1 && seconds <= 60);
  assert.equal(error.headers.get('x-ratelimit-limit-requests'), '1');
  assert.equal(error.headers.get('x-ratelimit-remaining-requests'), '0');
});

// The provider's

test("a provider's 400 keeps its words", async () => {
  const [key, marker] = [await Key.make(), new Marker()];
  const openai = await client(key);
  const asked = ask(openai, 'scripted/refuses-400', { user: marker.user, temperature: 9 });
  const error = await fails(OpenAI.BadRequestError, asked);
  assert.deepEqual([error.code, error.param, error.type], ['unsupported_value', 'temperature', 'invalid_request_error']);
  assert.match(error.message, /does not support 9/);
  assert.equal(error.error.provider, 'scripted');
  assert.deepEqual([openai.sent.length, (await marker.received()).length], [1, 1]);
  const row = await key.oneRow();
  assert.deepEqual([row.status, row.outcome, row.request_id], [400, 'rejected', error.requestID]);
});

test("a provider's 404 keeps its words", async () => {
  const [openai, marker] = [await client(), new Marker()];
  const error = await fails(OpenAI.NotFoundError, ask(openai, 'scripted/missing-404', { user: marker.user }));
  assert.deepEqual([error.code, error.error.provider], ['model_not_found', 'scripted']);
  assert.equal((await marker.received()).length, 1);
});

for (const stream of [false, true]) {
  test(`a refused provider key is not the client's fault and not retried, stream: ${stream}`, async () => {
    const [openai, marker] = [await client(), new Marker()];
    const error = await fails(OpenAI.InternalServerError, ask(openai, 'locked/chat', { user: marker.user, stream }));
    assert.deepEqual([error.status, error.code], [502, 'provider_key_rejected']);
    assert.equal(error.headers.get('x-should-retry'), 'false');
    assert.equal(error.error.provider_status, 401);
    assert.ok(!JSON.stringify(error.error).includes('sk-wrong'));
    assert.deepEqual([openai.sent.length, (await marker.received()).length], [1, 1]);
  });

  test(`a provider's 429 is retried when it says so, stream: ${stream}`, async () => {
    const [key, marker] = [await Key.make(), new Marker()];
    const openai = await client(key);
    const before = Date.now();
    const answer = await ask(openai, 'scripted/limited-once', { user: marker.user, stream });
    if (stream) for await (const _ of answer);
    assert.ok(Date.now() - before >= 990);
    assert.deepEqual([openai.sent.length, (await marker.received()).length], [2, 2]);
    assert.equal(openai.sent[1].headers.get('x-stainless-retry-count'), '1');
    let statuses = [];
    await eventually(async () => (statuses = (await key.usage()).map((row) => row.status)).length === 2);
    assert.deepEqual(statuses.sort(), [200, 429]);
  });
}

test("a provider's 429 arrives with its retry-after", async () => {
  const openai = await client(undefined, { maxRetries: 0 });
  const error = await fails(OpenAI.RateLimitError, ask(openai, 'scripted/limited'));
  assert.deepEqual([error.code, error.error.provider_status], ['upstream_rate_limited', 429]);
  assert.equal(error.headers.get('retry-after'), '1');
});

test('a 429 about money is not retried', async () => {
  const [openai, marker] = [await client(), new Marker()];
  const error = await fails(OpenAI.RateLimitError, ask(openai, 'scripted/unpaid', { user: marker.user }));
  assert.deepEqual([error.status, error.code], [429, 'upstream_rate_limited']);
  assert.equal(error.headers.get('x-should-retry'), 'false');
  assert.deepEqual([openai.sent.length, (await marker.received()).length], [1, 1]);
});

for (const [model, status, providerStatus] of [
  ['fails-500', 502, 500],
  ['fails-503', 503, 503],
  ['page-502', 502, 502],
]) {
  test(`a broken provider is tried again by the SDK and then reported: ${model}`, async () => {
    const [openai, marker] = [await client(undefined, { maxRetries: 1 }), new Marker()];
    const error = await fails(OpenAI.InternalServerError, ask(openai, `scripted/${model}`, { user: marker.user }));
    assert.deepEqual([error.status, error.code, error.error.provider_status], [status, 'upstream_error', providerStatus]);
    assert.ok(!error.message.includes('<html>'));
    assert.deepEqual([openai.sent.length, (await marker.received()).length], [2, 2]);
  });
}

// Streams that end badly

for (const [model, code] of [
  ['stream-error', 'engine_fell_over'],
  ['stream-dies', 'upstream_error'],
  ['stream-stops-short', 'upstream_error'],
]) {
  test(`a stream that breaks throws after what came: ${model}`, async () => {
    const [key, marker] = [await Key.make(), new Marker()];
    const openai = await client(key);
    const stream = await ask(openai, `scripted/${model}`, { user: marker.user, stream: true });
    let text = '';
    const read = async () => {
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
    };
    const error = await fails(APIError, read());
    assert.equal(text, 'So far so ');
    assert.deepEqual([error.code, error.type], [code, 'server_error']);
    assert.deepEqual([openai.sent.length, (await marker.received()).length], [1, 1]);
    const row = await key.oneRow();
    assert.deepEqual([row.outcome, row.usage_source, row.status], ['upstream_error', 'estimated', 200]);
  });
}

test('a stream that begins with an error is a status error', async () => {
  const openai = await client(undefined, { maxRetries: 0 });
  const error = await fails(OpenAI.InternalServerError, ask(openai, 'scripted/stream-error-first', { stream: true }));
  assert.deepEqual([error.status, error.code], [502, 'upstream_error']);
  assert.match(error.message, /Overloaded\./);
});

test('the stream helper throws too', async () => {
  const openai = await client();
  const stream = openai.chat.completions.stream({ model: 'scripted/stream-dies', messages: PROMPT });
  const error = await stream.done().then(() => assert.fail('it did not fail'), (error) => error);
  assert.ok(error instanceof APIError, error.stack);
  assert.equal(error.code, 'upstream_error');
});
