// What every test needs: clients that count what they send, fresh virtual keys, and a look behind the gateway.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import OpenAI from 'openai';

const { KEYSTILE_BASE_URL, SDK_ADMIN_URL, SDK_ADMIN_TOKEN, SDK_UPSTREAM_URL } = process.env;
export const BASE_URL = KEYSTILE_BASE_URL;

// What the scripted provider says and how it embeds; see `upstream.py`.
export const TEXT = 'Grüße from the scripted provider: 日本語 and 🦀.';
export const VECTOR = [0.5, -0.25, 0.125, -1.5];

// In every prompt: whoever finds it in a log or a database has found a leak.
export const PROMPT = [{ role: 'user', content: 'canary-body: Größe? 日本' }];

export async function admin(method, path, body) {
  const answer = await fetch(SDK_ADMIN_URL + path, {
    method,
    headers: { authorization: `Bearer ${SDK_ADMIN_TOKEN}`, 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

/** Asks until the answer is true; answers with it. */
export async function eventually(ask, milliseconds = 10_000) {
  const until = Date.now() + milliseconds;
  for (;;) {
    const answer = await ask();
    if (answer || Date.now() > until) return answer;
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

/** A virtual key of its own, so that its usage rows are a test's own. */
export class Key {
  static async make(limits = {}) {
    const made = await admin('POST', '/api/virtual-keys', { name: `sdk-${randomUUID()}`, ...limits });
    return Object.assign(new Key(), { id: made.id, key: made.key });
  }

  async usage() {
    return (await admin('GET', `/api/usage?virtual_key_id=${this.id}`)).data;
  }

  /** The one usage row of this key. A row may follow the answer by a moment. */
  async oneRow() {
    let rows = [];
    await eventually(async () => (rows = await this.usage()).length > 0);
    assert.equal(rows.length, 1);
    return rows[0];
  }
}

/** A name in a request's `user` field, by which the scripted provider tells what reached it. */
export class Marker {
  user = `u-${randomUUID()}`;

  async received() {
    return (await fetch(`${SDK_UPSTREAM_URL}/requests/${this.user}`)).json();
  }
}

/** A client that counts its requests in `client.sent`, retries included. */
export async function client(key, options = {}) {
  const apiKey = typeof key === 'string' ? key : (key ?? (await Key.make())).key;
  const sent = [];
  const counting = (url, init) => {
    sent.push({ url, headers: new Headers(init?.headers) });
    return fetch(url, init);
  };
  const made = new OpenAI({ baseURL: BASE_URL, apiKey, fetch: counting, ...options });
  return Object.assign(made, { sent });
}

export async function collect(items) {
  const all = [];
  for await (const item of items) all.push(item);
  return all;
}

export const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');

/** The error that a promise ends in, which is exactly of this class. */
export async function fails(type, promise) {
  const error = await promise.then(
    () => assert.fail('it did not fail'),
    (error) => error,
  );
  assert.equal(error.constructor, type, `${error.stack}`);
  if (error.status) {
    assert.match(error.requestID, /^req_/);
    assert.equal(error.requestID, error.headers.get('x-request-id'));
    assert.ok(error.message.includes(error.error.message));
  }
  return error;
}
