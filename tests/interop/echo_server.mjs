// An echo server of npm's `ws`, for corewire's clients.
//
//     node echo_server.mjs PORT
//
// Says on its standard output how each connection was closed.
import { createRequire } from 'node:module';

const { WebSocketServer } = createRequire(import.meta.url)('ws');
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]) });
server.on('connection', (ws) => {
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  ws.on('close', (code, reason) => console.log(`closed ${code} ${reason}`));
});
