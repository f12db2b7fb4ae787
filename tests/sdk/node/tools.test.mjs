// Tools and structured output, with the SDK's own helpers.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { Marker, PROMPT, client, collect } from './house.mjs';

const WEATHER = { city: 'Reykjavík' };
const TIME = { zone: 'Atlantic/Reykjavik' };
const TOOLS = [
  zodFunction({ name: 'get_weather', description: 'The weather of a city.', parameters: z.object({ city: z.string() }) }),
  zodFunction({ name: 'get_time', description: 'The time of a zone.', parameters: z.object({ zone: z.string() }) }),
];
const ORDER = { item: 'Crème brûlée', count: 2 };
const Order = zodResponseFormat(z.object({ item: z.string(), count: z.number().int() }), 'order');
const BOTH = [
  ['call_a', 'get_weather', WEATHER],
  ['call_b', 'get_time', TIME],
];
const namesAndArguments = (calls) =>
  calls.map((call) => [call.id, call.function.name, JSON.parse(call.function.arguments)]);

test('tools reach the model and its calls come back', async () => {
  const marker = new Marker();
  const openai = await client();
  const asked = { model: 'scripted/tools', tools: TOOLS, parallel_tool_calls: true, user: marker.user };
  const { message, finish_reason } = (await openai.chat.completions.create({ ...asked, messages: PROMPT })).choices[0];
  assert.equal(finish_reason, 'tool_calls');
  assert.equal(message.content, null);
  assert.deepEqual(namesAndArguments(message.tool_calls), BOTH);
  assert.deepEqual((await marker.received())[0].body.tools, JSON.parse(JSON.stringify(TOOLS)));

  const results = ['sunny', 'noon'].map((content, at) => ({
    role: 'tool',
    tool_call_id: message.tool_calls[at].id,
    content,
  }));
  const answer = await openai.chat.completions.create({ ...asked, messages: [...PROMPT, message, ...results] });
  assert.equal(answer.choices[0].message.content, 'It is sunny and noon.');
});

for (const model of ['tools', 'tools-by-turns']) {
  test(`parallel calls in a stream are told apart by their index: ${model}`, async () => {
    const openai = await client();
    const stream = await openai.chat.completions.create({
      model: `scripted/${model}`,
      messages: PROMPT,
      tools: TOOLS,
      stream: true,
    });
    const calls = [];
    for (const chunk of await collect(stream)) {
      for (const { index, id, function: part } of chunk.choices[0].delta.tool_calls ?? []) {
        const call = (calls[index] ??= { id: '', function: { name: '', arguments: '' } });
        call.id += id ?? '';
        call.function.name += part.name ?? '';
        call.function.arguments += part.arguments ?? '';
      }
    }
    assert.deepEqual(namesAndArguments(calls), BOTH);
  });
}

test('the stream helper puts parallel calls together and parses them', async () => {
  const openai = await client();
  const stream = openai.chat.completions.stream({ model: 'scripted/tools', messages: PROMPT, tools: TOOLS });
  const done = [];
  stream.on('tool_calls.function.arguments.done', (call) => done.push([call.name, call.parsed_arguments]));
  const message = await stream.finalMessage();
  assert.deepEqual(namesAndArguments(message.tool_calls), BOTH);
  assert.deepEqual(done, [['get_weather', WEATHER], ['get_time', TIME]]);
});

test('the tool runner speaks to the end', async () => {
  const openai = await client();
  const tool = (name, property, run) => ({
    type: 'function',
    function: {
      name,
      parameters: { type: 'object', properties: { [property]: { type: 'string' } } },
      parse: JSON.parse,
      function: run,
    },
  });
  const tools = [
    tool('get_weather', 'city', ({ city }) => `rain in ${city}`),
    tool('get_time', 'zone', ({ zone }) => `noon in ${zone}`),
  ];
  for (const stream of [false, true]) {
    const runner = openai.chat.completions.runTools({ model: 'scripted/tools', messages: PROMPT, tools, stream });
    assert.equal(await runner.finalContent(), 'It is rain in Reykjavík and noon in Atlantic/Reykjavik.');
  }
});

test('parse gives an object of the schema', async () => {
  const marker = new Marker();
  const openai = await client();
  const asked = { messages: PROMPT, response_format: Order, user: marker.user };
  const answer = await openai.chat.completions.parse({ model: 'scripted/structured', ...asked });
  assert.deepEqual(answer.choices[0].message.parsed, ORDER);
  const { json_schema } = (await marker.received())[0].body.response_format;
  assert.equal(json_schema.strict, true);
  assert.deepEqual(json_schema, JSON.parse(JSON.stringify(Order.json_schema)));
});

test('the stream helper parses structured output', async () => {
  const openai = await client();
  const stream = openai.chat.completions.stream({
    model: 'scripted/structured',
    messages: PROMPT,
    response_format: Order,
  });
  assert.deepEqual((await stream.finalMessage()).parsed, ORDER);
});

test('parse gives parsed tool arguments', async () => {
  const openai = await client();
  const answer = await openai.chat.completions.parse({ model: 'scripted/tools', messages: PROMPT, tools: TOOLS });
  const parsed = answer.choices[0].message.tool_calls.map((call) => call.function.parsed_arguments);
  assert.deepEqual(parsed, [WEATHER, TIME]);
});
