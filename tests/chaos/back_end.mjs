// A back end by npm's ws: it logs each message, and sends it back.
//
//     node back_end.mjs PORT LOG
//
// What it says, and what its log says, stands in back_end.py. ws hands a message out before it reads
// on, so what stands in front of a ping is in the log when that is answered.

import { openSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';

const { WebSocketServer } = createRequire(import.meta.url)('ws');

const [port, path] = process.argv.slice(2);
const log = openSync(path, 'a');
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port) });

server.on('listening', () => process.stdout.write('listening\n'));
server.on('connection', (ws) => {
  let name;
  ws.on('message', (data) => {
    const message = data.toString();
    const space = message.indexOf(' ');
    name ??= message.slice(space + 1);
    writeSync(log, `${name} ${message.slice(0, space)}`.padEnd(31) + '\n');
    ws.send(message);
  });
  // Resets are what this is about; the connection closes after them.
  ws.on('error', () => {});
});
process.stdin.on('end', () => process.exit(0)).resume();
