// Makes the connections that deflate.py asks for with npm's `ws` or with Chromium.
//
//     node deflate_client.mjs ws|chromium

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { on, once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(import.meta.url);

const TIMEOUT_MS = 30_000;
const JSON_TEXT = JSON.stringify(Array.from({ length: 13 }, (_, n) => (
  { id: 7919 * n, name: `näme ${n}`, price: 100 / (n + 3), tags: ['a', 'b'] })));

// The edges of a frame's length and of the threshold, then a text that repeats what was before.
const SMALL = [
  ...[0, 1, 2, 125, 126, 127, 128, 129, 1000].flatMap(
    (size) => [Buffer.alloc(size), 'x'.repeat(size), randomBytes(size)]),
  JSON_TEXT, JSON_TEXT, Buffer.from(JSON_TEXT),
  ...Array.from({ length: 5 }, (_, n) => JSON_TEXT.replaceAll('name', `name${n}`)), JSON_TEXT,
];
const LARGE = [randomBytes(64 << 10), Buffer.alloc(1 << 20), randomBytes(65_535), JSON_TEXT.repeat(60)];
const FRAGMENTED = [
  [JSON_TEXT, '', 'é', JSON_TEXT], ['', ''], ['', 'x'.repeat(200), ''],
  [randomBytes(70_000), Buffer.alloc(70_000), Buffer.alloc(0)],
];

const joined = (pieces) => (
  typeof pieces[0] === 'string' ? pieces.join('') : Buffer.concat(pieces));

async function exchangeOverWs(ws) {
  const messages = on(ws, 'message');
  const expect = async (message) => {
    const [data, isBinary] = (await messages.next()).value;
    assert.deepEqual(isBinary ? data : data.toString(), message);
  };
  for (const message of SMALL) ws.send(message);
  for (const message of SMALL) await expect(message);
  for (const message of LARGE) {
    ws.send(message);
    await expect(message);
  }
  for (const pieces of FRAGMENTED) {
    pieces.forEach((piece, n) => ws.send(piece, { fin: n === pieces.length - 1 }));
    await expect(joined(pieces));
  }
  // A message may also go uncompressed, whatever was agreed on.
  ws.send(JSON_TEXT, { compress: false });
  ws.send(JSON_TEXT);
  await expect(JSON_TEXT);
  await expect(JSON_TEXT);
}

async function overWs({ url, offer, exchange }) {
  const WebSocket = require('ws');
  const ws = new WebSocket(url, {
    perMessageDeflate: {
      threshold: 0,
      serverNoContextTakeover: offer.server_no_context_takeover,
      clientNoContextTakeover: offer.client_no_context_takeover,
      serverMaxWindowBits: offer.server_max_window_bits,
      clientMaxWindowBits: offer.client_max_window_bits ?? false,
    },
  });
  const offered = ws._req.getHeader('sec-websocket-extensions');
  const [[response]] = await Promise.all([once(ws, 'upgrade'), once(ws, 'open')]);
  if (exchange) await exchangeOverWs(ws);
  const closed = once(ws, 'close');
  ws.close(1000);
  assert.equal((await closed)[0], 1000);
  return { offered, answered: response.headers['sec-websocket-extensions'] ?? null };
}

// Runs in the page.
async function exchangeInPage({ url, json }) {
  const ws = new WebSocket(url);
  ws.binaryType = 'arraybuffer';
  const arrived = [];
  let wake = () => {};
  ws.onmessage = ({ data }) => { arrived.push(data); wake(); };
  const closed = new Promise((resolve) => { ws.onclose = ({ code }) => { resolve(code); wake(); }; });
  await new Promise((resolve, reject) => { ws.onopen = resolve; ws.onerror = reject; });
  const random = (size) => {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    return bytes;
  };
  const small = [0, 1, 2, 125, 126, 127, 128, 129, 1000].flatMap(
    (size) => [new Uint8Array(size), 'x'.repeat(size), random(size)]);
  const messages = [
    ...small, json, json, new TextEncoder().encode(json), json.replaceAll('name', 'nom'), json,
    random(64 << 10), new Uint8Array(1 << 20), random(65_535), json.repeat(60), json,
  ];
  for (const message of messages) ws.send(message);
  while (arrived.length < messages.length && ws.readyState === WebSocket.OPEN) {
    await new Promise((resolve) => { wake = resolve; });
  }
  const isSame = (a, b) => (typeof a === 'string' ? a === b
    : typeof b !== 'string' && a.length === b.byteLength
      && new Uint8Array(b).every((byte, at) => byte === a[at]));
  const wrong = messages.findIndex((message, n) => n >= arrived.length || !isSame(message, arrived[n]));
  ws.close(1000);
  return { wrong, code: await closed, extensions: ws.extensions };
}

async function chromium() {
  const browser = await require('playwright-core').chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
  const page = await browser.newPage();
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  const connection = async ({ url }) => {
    // The page is the server's own: that is whom it lets in.
    await page.goto(url.replace(/^ws/, 'http'));
    const request = once(session, 'Network.webSocketWillSendHandshakeRequest');
    const { wrong, code, extensions } = await page.evaluate(exchangeInPage, { url, json: JSON_TEXT });
    assert.deepEqual({ wrong, code }, { wrong: -1, code: 1000 });
    const [{ request: { headers } }] = await request;
    return { offered: headers['Sec-WebSocket-Extensions'], answered: extensions || null };
  };
  return { connection, end: () => browser.close() };
}

const { connection, end } = process.argv[2] === 'chromium'
  ? await chromium() : { connection: overWs, end: () => {} };
for await (const line of createInterface({ input: process.stdin })) {
  const task = JSON.parse(line);
  const timer = setTimeout(() => {
    console.error(`${line}: nothing for ${TIMEOUT_MS} ms`);
    process.exit(1);
  }, TIMEOUT_MS);
  try {
    console.log(JSON.stringify({ ...task, ...await connection(task) }));
  } catch (error) {
    console.error(`${line}: ${error.stack}`);
    process.exit(1);
  }
  clearTimeout(timer);
}
await end();
