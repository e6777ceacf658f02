// The client of Node's `ws`, which does what lines of JSON tell it and tells what happens in others:
//
//     node node_ws.cjs DIRECTORY_OF_WS
//
// A line is [number of the socket, command or event, its value]. Binary data is in base64.
"use strict";

const WebSocket = require(process.argv[2]);
const sockets = new Map();

function tell(number, event, value) {
  process.stdout.write(`${JSON.stringify([number, event, value])}\n`);
}

const commands = {
  connect(number, { url, offer }) {
    const socket = new WebSocket(url, { perMessageDeflate: offer });
    sockets.set(number, socket);
    socket.on("upgrade", (response) => tell(number, "open", response.headers["sec-websocket-extensions"] ?? null));
    socket.on("message", (data, isBinary) =>
      tell(number, isBinary ? "binary" : "text", data.toString(isBinary ? "base64" : "utf8")),
    );
    socket.on("pong", (data) => tell(number, "pong", data.toString("base64")));
    socket.on("close", (code, reason) => tell(number, "closed", [code, reason.toString()]));
    socket.on("error", (error) => tell(number, "error", error.message));
  },
  text: (number, text) => sockets.get(number).send(text),
  binary: (number, data) => sockets.get(number).send(Buffer.from(data, "base64")),
  fragments: (number, texts) =>
    texts.forEach((text, i) => sockets.get(number).send(text, { fin: i === texts.length - 1 })),
  ping: (number, data) => sockets.get(number).ping(Buffer.from(data, "base64")),
  close: (number, [code, reason]) => sockets.get(number).close(code, reason),
};

require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [number, command, value] = JSON.parse(line);
    commands[command](number, value);
  });
