// What the gateway adds, within an SDK's reach: headers, request ids, fallbacks, tags, and clients that leave.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI from 'openai';

import { Key, Marker, PROMPT, TEXT, admin, client, collect, eventually, fails, textOf } from './house.mjs';

test('the request id is the one in the ledger', async () => {
  const key = await Key.make();
  const openai = await client(key);
  const answer = await openai.chat.completions.create({ model: 'scripted/chat', messages: PROMPT });
  assert.match(answer._request_id, /^req_/);
  assert.equal((await key.oneRow()).request_id, answer._request_id);
  const explained = await admin('GET', `/api/usage/${answer._request_id}/explain`);
  assert.equal(explained.cost_micro_usd, 78);
});

for (const stream of [false, true]) {
  test(`responses show the gateway's headers, stream: ${stream}`, async () => {
    const openai = await client();
    const { data, response, request_id } = await openai.chat.completions
      .create({ model: 'scripted/org/chat', messages: PROMPT, stream })
      .withResponse();
    assert.equal(response.headers.get('x-keystile-provider'), 'scripted');
    assert.equal(response.headers.get('x-keystile-model'), 'scripted/org/chat');
    assert.equal(response.headers.get('x-keystile-attempts'), '1');
    assert.equal(response.headers.get('x-request-id'), request_id);
    if (stream) {
      assert.match(response.headers.get('content-type'), /^text\/event-stream/);
      assert.equal(textOf(await collect(data)), TEXT);
    } else {
      assert.equal(Number(response.headers.get('x-keystile-cost-micro-usd')), 78);
      assert.equal(data.choices[0].message.content, TEXT);
    }
  });

  test(`the models array is tried in order, stream: ${stream}`, async () => {
    const [key, marker] = [await Key.make(), new Marker()];
    const openai = await client(key);
    // Models of this test's own: what has failed before rests, and would come last.
    const models = [`scripted/fails-500~${marker.user}`, `locked/chat~${marker.user}`, 'scripted/chat'];
    const { data, response } = await openai.chat.completions
      .create({ model: models[0], models, messages: PROMPT, user: marker.user, stream })
      .withResponse();
    assert.equal(response.headers.get('x-keystile-model'), 'scripted/chat');
    assert.equal(response.headers.get('x-keystile-attempts'), '3');
    assert.equal(stream ? textOf(await collect(data)) : data.choices[0].message.content, TEXT);
    const received = (await marker.received()).map((note) => note.body);
    assert.deepEqual(received.map((body) => body.model), models.map((model) => model.split('/')[1]));
    assert.ok(received.every((body) => !('models' in body)));
    assert.equal(openai.sent.length, 1);
    const row = await key.oneRow();
    assert.deepEqual([row.requested_model, row.served_model, row.attempts], [models[0], models[2], 3]);
  });
}

test("a key's fallbacks need nothing from the client", async () => {
  const openai = await client(await Key.make({ fallback_models: ['scripted/chat'] }));
  const asked = { model: 'scripted/stream-error-first', messages: PROMPT, stream: true };
  assert.equal(textOf(await collect(await openai.chat.completions.create(asked))), TEXT);
});

test('tags of key and request meet in the ledger', async () => {
  const key = await Key.make({ tags: { team: 'search', run: '0' } });
  const openai = await client(key);
  const asked = { model: 'scripted/chat', messages: PROMPT };
  await openai.chat.completions.create(asked, { headers: { 'x-keystile-tags': 'run=42, stage=dev' } });
  assert.deepEqual((await key.oneRow()).tags, { team: 'search', run: '42', stage: 'dev' });
  const wrong = openai.chat.completions.create(asked, { headers: { 'x-keystile-tags': 'no pairs' } });
  assert.equal((await fails(OpenAI.BadRequestError, wrong)).code, 'invalid_request');
});

const leave = {
  'by breaking the loop': async (stream) => {
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 4) break;
  },
  'by its controller': async (stream) => {
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 4) stream.controller.abort();
  },
};
for (const [how, away] of Object.entries(leave)) {
  test(`a stream that is left ${how} leaves one row`, async () => {
    const [key, marker] = [await Key.make(), new Marker()];
    const openai = await client(key);
    const asked = { model: 'scripted/slow', messages: PROMPT, user: marker.user, stream: true };
    await away(await openai.chat.completions.create(asked));
    const row = await key.oneRow();
    assert.deepEqual([row.outcome, row.usage_source, row.status], ['client_gone', 'estimated', 200]);
    assert.ok(row.input_tokens > 0 && row.output_tokens > 0 && row.cost_micro_usd > 0);
    const ended = await eventually(async () => (await marker.received())[0].ended, 3_000);
    assert.equal(ended, 'caller left', 'the provider is told');
    assert.deepEqual([openai.sent.length, (await key.usage()).length], [1, 1]);
    assert.equal((await admin('GET', `/api/virtual-keys/${key.id}`)).reserved_micro_usd, 0);
  });
}

test('a whole answer is metered though its client has left', async () => {
  const [key, marker] = [await Key.make(), new Marker()];
  const openai = await client(key, { timeout: 500, maxRetries: 0 });
  const asked = { model: 'scripted/slow-whole', messages: PROMPT, user: marker.user };
  const error = await openai.chat.completions.create(asked).then(() => assert.fail('no timeout'), (error) => error);
  assert.ok(error instanceof OpenAI.APIConnectionTimeoutError, error.stack);
  const row = await key.oneRow();
  assert.deepEqual([row.usage_source, row.input_tokens, row.output_tokens], ['provider', 11, 7]);
});

test('many streams at once', async () => {
  const openai = await client();
  const one = async (number) => {
    const messages = [{ role: 'user', content: `canary-body ${number}` }];
    return textOf(await collect(await openai.chat.completions.create({ model: 'scripted/chat', messages, stream: true })));
  };
  const texts = await Promise.all(Array.from({ length: 40 }, (_, number) => one(number)));
  assert.deepEqual(texts, Array(40).fill(TEXT));
});

test('a key sees its own standing', async () => {
  const openai = await client(await Key.make({ spend_cap_micro_usd: 1_000_000, spend_window: 'daily' }));
  await openai.chat.completions.create({ model: 'scripted/chat', messages: PROMPT });
  const standing = await openai.get('/key');
  assert.deepEqual([standing.spent_micro_usd, standing.remaining_micro_usd], [78, 1_000_000 - 78]);
});
