// Anthropic's SDK, whoever answers.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';

import { BASE_URL, Key, PROMPT, TEXT } from './house.mjs';

const tool = (name, key) => ({
  name,
  input_schema: { type: 'object', properties: { [key]: { type: 'string' } } },
});
const TOOLS = [tool('get_weather', 'city'), tool('get_time', 'zone')];
const CALLS = [
  ['get_weather', { city: 'Reykjavík' }],
  ['get_time', { zone: 'Atlantic/Reykjavik' }],
];

async function claude(key) {
  const apiKey = (key ?? (await Key.make())).key;
  return new Anthropic({ baseURL: BASE_URL.replace(/\/v1$/, ''), apiKey, maxRetries: 0 });
}

async function ask(streamed, asked, client) {
  return streamed ? client.messages.stream(asked).finalMessage() : client.messages.create(asked);
}

for (const streamed of [false, true]) {
  for (const model of ['claudes/claude-sonnet-4-5', 'geminis/gemini-3-pro-preview']) {
    test(`two turns of tools with thoughts, ${model}, stream: ${streamed}`, async () => {
      const client = await claude();
      const thinking = { type: 'enabled', budget_tokens: 1024 };
      let messages = PROMPT;
      for (const [name, input] of CALLS) {
        const asked = { model, max_tokens: 4000, messages, tools: TOOLS, thinking };
        const answer = await ask(streamed, asked, client);
        assert.equal(answer.stop_reason, 'tool_use');
        const call = answer.content.at(-1);
        assert.deepEqual([call.name, call.input], [name, input]);
        assert.ok(answer.content.some((block) => block.type === 'thinking'));
        const result = { type: 'tool_result', tool_use_id: call.id, content: '{}' };
        messages = [...messages, { role: 'assistant', content: answer.content }, { role: 'user', content: [result] }];
      }
      const answer = await client.messages.create({ model, max_tokens: 4000, messages, tools: TOOLS });
      assert.equal(answer.content.at(-1).text, TEXT);
    });
  }

  test(`the tools of an OpenAI provider, stream: ${streamed}`, async () => {
    const asked = { model: 'scripted/tools', max_tokens: 500, messages: PROMPT, tools: TOOLS };
    const answer = await ask(streamed, asked, await claude());
    const calls = answer.content.filter((block) => block.type === 'tool_use');
    assert.deepEqual(calls.map((call) => [call.name, call.input]), CALLS);
    assert.equal(answer.stop_reason, 'tool_use');
  });
}

test('a cap is a billing error', async () => {
  const key = await Key.make({ spend_cap_micro_usd: 0 });
  const client = await claude(key);
  const asked = { model: 'claudes/claude-sonnet-4-5', max_tokens: 10, messages: PROMPT };
  await assert.rejects(client.messages.create(asked), (error) => {
    assert.ok(error instanceof Anthropic.APIError);
    assert.deepEqual([error.status, error.error.error.type], [402, 'billing_error']);
    return true;
  });
});
