// Users of npm's `ws` meet at the topics of `corewire serve --topics`, compressed where both agree.
//
//     node topics.mjs URL
//
// Exits with 0 if everybody got what they should.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';

const WebSocket = createRequire(import.meta.url)('ws');

const [url] = process.argv.slice(2);
const MESSAGES = 2000;
const TIMEOUT_MS = 30_000;

setTimeout(() => {
  console.error(`nothing for ${TIMEOUT_MS} ms`);
  process.exit(1);
}, TIMEOUT_MS).unref();

async function open(path) {
  const ws = new WebSocket(url + path);
  await once(ws, 'open');
  return ws;
}

// Once there are `count` messages.
function collect(ws, count) {
  const got = [];
  return new Promise((resolve, reject) => {
    ws.on('close', (code) => reject(new Error(`closed with ${code} after ${got.length}`)));
    ws.on('message', (data, isBinary) => {
      got.push(isBinary ? data : data.toString());
      if (got.length === count) resolve(got);
    });
  });
}

const sent = Array.from({ length: MESSAGES }, (_, n) => (
  n % 2 ? `message ${n} `.repeat(n % 50) : Buffer.alloc(n, n)
));
const [bare, enveloped, publisher] =
  await Promise.all(['sub/a/b', 'topics', 'pub/a/b'].map(open));
enveloped.send(JSON.stringify({ type: 'subscribe', topic: 'a/#', id: 1 }));
const [answer] = await once(enveloped, 'message');
assert.deepEqual(JSON.parse(answer), { type: 'ack', topic: 'a/#', id: 1 });
const collected = [collect(bare, MESSAGES), collect(enveloped, MESSAGES)];
sent.forEach((message) => publisher.send(message));
assert.deepEqual(await collected[0], sent);
for (const [n, told] of (await collected[1]).entries()) {
  const { type, topic, data, encoding } = JSON.parse(told);
  assert.deepEqual([type, topic], ['message', 'a/b']);
  assert.deepEqual(encoding ? Buffer.from(data, encoding) : data, sent[n]);
}
[bare, enveloped, publisher].forEach((ws) => ws.terminate());
console.log('  everything comes in order as it was sent: ok');
