// What a user of npm's `ws` does with an echo server, each step with what must come back.
//
//     node client.mjs URL [going-away]
//
// Exits with 0 if everything did. With `going-away` it connects, says so, and waits for 1012.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';

const WebSocket = createRequire(import.meta.url)('ws');

const SIZES = [0, 1, 2, 124, 125, 126, 127, 1000, 4096, 65535, 65536, 65537, 1 << 20];
const PIPELINED = 10_000;
const TIMEOUT_MS = 30_000;

async function open(url, ...rest) {
  const ws = new WebSocket(url, ...rest);
  await once(ws, 'open');
  return ws;
}

async function receive(ws) {
  const [data, isBinary] = await once(ws, 'message');
  return isBinary ? data : data.toString();
}

async function close(ws, code = 1000) {
  const closed = once(ws, 'close');
  ws.close(code, 'bye é');
  return (await closed)[0];
}

async function echoesOfManySizes(url) {
  const ws = await open(url);
  for (const size of SIZES) {
    for (const message of [randomBytes(size), 'é漢😀x'.repeat(size / 10)]) {
      ws.send(message);
      assert.deepEqual(await receive(ws), message, `${size} bytes`);
    }
  }
  await close(ws);
}

async function echoesOfFragmentedMessages(url) {
  const ws = await open(url);
  for (const pieces of [['a', '', 'é', '😀'.repeat(100)], ['', ''], Array(5).fill('x'.repeat(70_000))]) {
    pieces.forEach((piece, n) => ws.send(piece, { fin: n === pieces.length - 1 }));
    assert.equal(await receive(ws), pieces.join(''));
  }
  await close(ws);
}

async function controlFramesBetweenFragments(url) {
  const ws = await open(url);
  // Both are awaited from the start: the pong and the echo arrive in one piece.
  const pong = once(ws, 'pong');
  const echo = receive(ws);
  ws.send('one ', { fin: false });
  ws.ping('between');
  ws.send('two', { fin: true });
  assert.equal((await pong)[0].toString(), 'between');
  assert.equal(await echo, 'one two');
  await close(ws);
}

async function pings(url) {
  const ws = await open(url);
  for (const payload of ['', 'p', 'x'.repeat(125)]) {
    const pong = once(ws, 'pong');
    ws.ping(payload);
    assert.equal((await pong)[0].toString(), payload);
  }
  await close(ws);
}

async function manyMessagesUnderWay(url) {
  const ws = await open(url);
  let next = 0;
  const all = new Promise((resolve, reject) => {
    ws.on('close', () => reject(new Error(`closed after ${next} messages`)));
    ws.on('message', (data) => {
      if (data.toString() !== `message ${next}`) reject(new Error(`out of order: ${data}`));
      next += 1;
      if (next === PIPELINED) resolve();
    });
  });
  for (let n = 0; n < PIPELINED; n += 1) ws.send(`message ${n}`);
  await all;
  await close(ws);
}

async function closeCodesOfTheClientComeBack(url) {
  for (const code of [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999]) {
    assert.equal(await close(await open(url), code), code);
  }
}

async function brokenFramesGetTheirCloseCode(url) {
  const broken = [
    [1007, (ws) => ws.send(Buffer.from([0xc3, 0x28]), { binary: false })],
    [1002, (ws) => ws._socket.write(Buffer.from([0x81, 0x01, 0x78]))],
    [1002, (ws) => ws._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))],
    [1002, (ws) => ws._socket.write(Buffer.from([0x09, 0x80, 0, 0, 0, 0]))],
  ];
  for (const [code, act] of broken) {
    const ws = await open(url);
    const closed = once(ws, 'close');
    act(ws);
    assert.equal((await closed)[0], code, String(act));
  }
}

// `ws` takes an answer without a subprotocol for an error, and says so: that is the refusal.
async function anUnknownSubprotocolIsNotAccepted(url) {
  const ws = new WebSocket(url, ['no-such-subprotocol']);
  const [error] = await once(ws, 'error');
  assert.match(error.message, /no subprotocol/);
}

async function goingAway(url) {
  const ws = await open(url);
  ws.send('hello');
  await receive(ws);
  const closed = once(ws, 'close');
  console.log('connected');
  assert.equal((await closed)[0], 1012);
}

const [url, mode] = process.argv.slice(2);
const steps = mode === 'going-away' ? [goingAway] : [
  echoesOfManySizes,
  echoesOfFragmentedMessages,
  controlFramesBetweenFragments,
  pings,
  manyMessagesUnderWay,
  closeCodesOfTheClientComeBack,
  brokenFramesGetTheirCloseCode,
  anUnknownSubprotocolIsNotAccepted,
];
for (const step of steps) {
  const timer = setTimeout(() => {
    console.error(`${step.name}: nothing for ${TIMEOUT_MS} ms`);
    process.exit(1);
  }, TIMEOUT_MS);
  await step(url);
  clearTimeout(timer);
  if (!mode) console.log(`  ${step.name}: ok`);
}
