// Chat, legacy completions, embeddings and models.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI from 'openai';

import { Key, Marker, PROMPT, TEXT, VECTOR, client, collect, fails, textOf } from './house.mjs';

test('the demo answers the key it printed', async () => {
  const openai = await client(process.env.KEYSTILE_KEY);
  const answer = await openai.chat.completions.create({
    model: 'demo/keystile-chat',
    messages: PROMPT,
    max_tokens: 8,
  });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert.equal(answer.usage.completion_tokens, 8);
  assert.equal(openai.sent.length, 1);
});

test('the demo streams', async () => {
  const openai = await client();
  const stream = await openai.chat.completions.create({
    model: 'demo/keystile-chat',
    messages: PROMPT,
    max_tokens: 8,
    stream: true,
  });
  const chunks = await collect(stream);
  assert.ok(textOf(chunks));
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length');
});

test('an answer comes as the provider wrote it', async () => {
  const [key, marker] = [await Key.make(), new Marker()];
  const openai = await client(key);
  const asked = { messages: PROMPT, user: marker.user, temperature: 0.5, vendor_option: { deep: [1, null, 'ü'] } };
  const answer = await openai.chat.completions.create({ model: 'scripted/chat', ...asked });
  assert.equal(answer.choices[0].message.content, TEXT);
  assert.equal(answer.model, 'chat');
  assert.deepEqual(answer.vendor_extension, { kept: true });
  assert.equal(answer.usage.prompt_tokens_details.cached_tokens, 0);

  const [note] = await marker.received();
  assert.deepEqual(note.body, { model: 'chat', ...asked });
  assert.equal(note.headers.authorization, 'the right key');
  assert.deepEqual(Object.keys(note.headers).filter((name) => name.startsWith('x-stainless')), []);

  const row = await key.oneRow();
  assert.deepEqual([row.status, row.outcome, row.usage_source, row.stream], [200, 'ok', 'provider', false]);
  assert.deepEqual([row.input_tokens, row.output_tokens, row.cost_micro_usd], [11, 7, 11 * 2 + 7 * 8]);
});

test('a stream without usage has no trace of it and is metered all the same', async () => {
  const [key, marker] = [await Key.make(), new Marker()];
  const openai = await client(key);
  const stream = await openai.chat.completions.create({
    model: 'scripted/chat',
    messages: PROMPT,
    user: marker.user,
    stream: true,
  });
  const chunks = await collect(stream);
  assert.equal(textOf(chunks), TEXT);
  assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
  assert.equal(chunks[0].obfuscation, 'aZ3');
  assert.deepEqual((await marker.received())[0].body.stream_options, { include_usage: true });
  const row = await key.oneRow();
  assert.deepEqual([row.outcome, row.usage_source, row.stream], ['ok', 'provider', true]);
  assert.deepEqual([row.input_tokens, row.output_tokens], [11, 7]);
});

test('a stream with usage ends with one usage chunk', async () => {
  for (const [model, tokens] of [['scripted/chat', 7], ['demo/keystile-chat', 6]]) {
    const openai = await client();
    const stream = await openai.chat.completions.create({
      model,
      messages: PROMPT,
      max_completion_tokens: 6,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await collect(stream);
    const last = chunks.pop();
    assert.ok(chunks.every((chunk) => chunk.usage === null));
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, tokens, model);
  }
});

test('the stream helper puts the answer together', async () => {
  const openai = await client();
  const deltas = [];
  const stream = openai.chat.completions
    .stream({ model: 'scripted/chat', messages: PROMPT, stream_options: { include_usage: true } })
    .on('content', (delta) => deltas.push(delta));
  assert.equal(await stream.finalContent(), TEXT);
  assert.equal(deltas.join(''), TEXT);
  assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, 'stop');
  assert.equal((await stream.totalUsage()).completion_tokens, 7);
});

test('a stream can be teed and read as a ReadableStream', async () => {
  const openai = await client();
  const stream = await openai.chat.completions.create({ model: 'scripted/chat', messages: PROMPT, stream: true });
  const [left, right] = stream.tee();
  const lines = [];
  for await (const bytes of left.toReadableStream()) lines.push(Buffer.from(bytes));
  const chunks = Buffer.concat(lines).toString().trim().split('\n').map((line) => JSON.parse(line));
  assert.equal(textOf(chunks), TEXT);
  assert.equal(textOf(await collect(right)), TEXT);
});

test('legacy completions, whole and streamed', async () => {
  const openai = await client();
  const asked = { model: 'scripted/legacy', prompt: 'canary-body' };
  const answer = await openai.completions.create(asked);
  assert.equal(answer.choices[0].text, TEXT);
  assert.equal(answer.usage.total_tokens, 10);
  const chunks = await collect(await openai.completions.create({ ...asked, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), TEXT);
  const demo = await openai.completions.create({ model: 'demo/keystile-chat', prompt: 'canary-body', max_tokens: 4 });
  assert.equal(demo.usage.completion_tokens, 4);
});

test('embeddings are right though the SDK asks for base64', async () => {
  const marker = new Marker();
  const openai = await client();
  const asked = { model: 'scripted/embed', input: ['canary-body', 'b'] };
  const answer = await openai.embeddings.create({ ...asked, user: marker.user });
  assert.deepEqual(answer.data.map((item) => Array.from(item.embedding)), [VECTOR, VECTOR]);
  assert.equal((await marker.received())[0].body.encoding_format, 'base64');
  const floats = await openai.embeddings.create({ ...asked, encoding_format: 'float' });
  assert.deepEqual(floats.data[0].embedding, VECTOR);
});

test('a provider that gives floats for base64 is understood', async () => {
  // Left as they are, the SDK would make an empty vector of them, without an error.
  const openai = await client();
  const answer = await openai.embeddings.create({ model: 'scripted/embed-floats', input: 'canary-body' });
  assert.deepEqual(Array.from(answer.data[0].embedding), VECTOR);
});

test('the demo embeds the same in both encodings', async () => {
  const openai = await client();
  const asked = { model: 'demo/keystile-embed', input: 'canary-body' };
  const packed = (await openai.embeddings.create(asked)).data[0].embedding;
  const floats = (await openai.embeddings.create({ ...asked, encoding_format: 'float' })).data[0].embedding;
  assert.equal(packed.length, 256);
  packed.forEach((number, at) => assert.ok(Math.abs(number - floats[at]) < 1e-6));
});

test('models are what this key may call, and are retrieved by names with slashes', async () => {
  const openai = await client(await Key.make({ models_allowed: ['scripted/org/chat', 'demo/*'] }));
  const models = await collect(openai.models.list());
  const ids = models.map((model) => model.id).sort();
  assert.deepEqual(ids, ['demo/keystile-chat', 'demo/keystile-embed', 'scripted/org/chat']);
  assert.ok(models.every((model) => model.object === 'model' && Number.isInteger(model.created)));
  for (const id of ids) assert.equal((await openai.models.retrieve(id)).id, id);
  const error = await fails(OpenAI.NotFoundError, openai.models.retrieve('scripted/chat'));
  assert.equal(error.code, 'model_not_found');
});
