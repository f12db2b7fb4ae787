// Keystile with the official OpenAI SDK for Node. Start a gateway that answers offline, and copy the key it prints:
//
//     keystile serve --demo          (from a checkout: cargo run --release -- serve --demo)
//     npm install openai
//     KEYSTILE_KEY=ks_… node examples/clients/node.mjs
//
// For a gateway elsewhere set KEYSTILE_BASE_URL, for another model KEYSTILE_MODEL.

import OpenAI from 'openai';

const { KEYSTILE_KEY, KEYSTILE_BASE_URL, KEYSTILE_MODEL } = process.env;
if (!KEYSTILE_KEY) {
  console.error('set KEYSTILE_KEY to a virtual key (ks_…)');
  process.exit(1);
}
const model = KEYSTILE_MODEL ?? 'demo/keystile-chat';
const client = new OpenAI({ baseURL: KEYSTILE_BASE_URL ?? 'http://127.0.0.1:8080/v1', apiKey: KEYSTILE_KEY });
const messages = [{ role: 'user', content: 'What is a virtual key?' }];

console.log('What this key may call:');
for await (const available of client.models.list()) console.log(' ', available.id);

// An answer in one piece. `models` are tried in order; the tags come back in the spend reports.
const { data, response, request_id } = await client.chat.completions
  .create(
    { model, messages, max_tokens: 60, models: ['demo/no-such-model', model] },
    { headers: { 'x-keystile-tags': 'example=node' } },
  )
  .withResponse();
console.log('\nIn one piece:\n', data.choices[0].message.content);
const cost = response.headers.get('x-keystile-cost-micro-usd');
console.log(`(${response.headers.get('x-keystile-model')}, ${cost} micro-dollars, ${request_id})`);

// The same as it is written.
console.log('\nAs a stream:');
const stream = await client.chat.completions.create({
  model,
  messages,
  max_tokens: 20,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? '');
  if (chunk.usage) {
    console.log(`\n(${chunk.usage.prompt_tokens} tokens in, ${chunk.usage.completion_tokens} out)`);
  }
}

// A refusal is the SDK's own exception, with the gateway's code.
try {
  await client.chat.completions.create({ model: 'demo/no-such-model', messages });
} catch (error) {
  if (!(error instanceof OpenAI.NotFoundError)) throw error;
  console.log(`\n${error.status} ${error.code}: ${error.message}`);
}

const standing = await client.get('/key');
console.log(`\nspent ${standing.spent_micro_usd}, remaining ${standing.remaining_micro_usd} micro-dollars`);
