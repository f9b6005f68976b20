// npm's ws as a server for a client of ours: `node servers.mjs PORT CHAIN KEY SOCKET`, where 0 and ''
// stand for none. Says "listening" when it does.
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(`${process.env.NODE_PATH}/`)("ws");

const [port, chain, key, socket] = process.argv.slice(2);
const server = chain
  ? https.createServer({ cert: fs.readFileSync(chain), key: fs.readFileSync(key) })
  : http.createServer();
const sockets = new WebSocketServer({
  noServer: true,
  maxPayload: 64 << 20,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has("chosen") ? "chosen" : false),
});

const paths = {
  "/echo": (ws) => ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary })),
  // Messages in fragments, a ping that has to be answered, a large message, and a Close.
  "/tell": (ws) => ws.once("message", () => {
    ws.send("in ", { fin: false });
    ws.ping("between");
    ws.send("two", { fin: true });
    ws.once("pong", (data) => {
      ws.send(`ponged ${data}`);
      ws.send(Buffer.alloc(3 << 20, "x"));
      ws.close(4321, "told everything");
    });
  }),
  // What comes behind the last message, the Close, is read late.
  "/slow": (ws) => ws.on("message", (data, isBinary) => {
    ws.send(data, { binary: isBinary });
    if (!isBinary && data.equals(Buffer.from("in three parts"))) {
      ws.pause();
      setTimeout(() => ws.resume(), 1500);
    }
  }),
  "/kill": (ws) => ws.once("message", () => ws.terminate()),
};

server.on("upgrade", (request, stream, head) => {
  const serve = paths[request.url];
  if (!serve) {
    const body = "not for you";
    stream.end(`HTTP/1.1 403 Forbidden\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    return;
  }
  sockets.handleUpgrade(request, stream, head, serve);
});
server.listen(socket ? { path: socket } : { port: Number(port), host: "127.0.0.1" }, () => console.log("listening"));
