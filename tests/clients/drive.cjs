// Node's clients, driven by lines (see drivers.py): node drive.cjs NODE_MODULES NAME
"use strict";

const path = require("node:path");
const readline = require("node:readline");

const [modules, name] = process.argv.slice(2);
const find = (file) => require(path.join(modules, file));
const word = (data) => (data == null ? "-" : `=${Buffer.from(data).toString("base64")}`);
const data = (text) => Buffer.from(text.slice(1), "base64");

const events = [];
let waiting = null;

function tell(...words) {
  if (waiting) {
    waiting(words);
    waiting = null;
  } else {
    events.push(words);
  }
}

const next = () => (events.length ? events.shift() : new Promise((resolve) => (waiting = resolve)));
const message = (received) =>
  typeof received === "string" ? tell("text", word(received)) : tell("binary", word(received));
const closed = (code, reason) => tell("closed", String(code), word(reason ?? ""));

// Each opens a socket, tells what happens to it, and returns how to send and close
const clients = {
  ws(url) {
    const socket = new (find("ws"))(url);
    socket.on("open", () => tell("open"));
    socket.on("unexpected-response", (request, response) => {
      let body = "";
      response.on("data", (piece) => (body += piece));
      response.on("end", () => tell("refused", String(response.statusCode), word(body)));
    });
    socket.on("message", (received, isBinary) => message(isBinary ? received : received.toString()));
    socket.on("close", (code, reason) => closed(code, reason.toString()));
    socket.on("error", () => {});
    return [(received) => socket.send(received), (code, reason) => socket.close(code, reason)];
  },

  undici: (url) => standard(new (find("undici").WebSocket)(url)),

  "faye-websocket": (url) => standard(new (find("faye-websocket").Client)(url)),

  websocket: (url) => {
    const client = new (find("websocket").client)();
    let connection;
    client.on("connect", (opened) => {
      connection = opened;
      connection.on("message", (received) => message(received.type === "utf8" ? received.utf8Data : received.binaryData));
      connection.on("close", closed);
      connection.on("error", () => {});
      tell("open");
    });
    client.on("httpResponse", (response) => {
      let body = "";
      response.on("data", (piece) => (body += piece));
      response.on("end", () => tell("refused", String(response.statusCode), word(body)));
    });
    client.on("connectFailed", () => {});
    client.connect(url);
    return [
      (received) => (typeof received === "string" ? connection.sendUTF(received) : connection.sendBytes(received)),
      (code, reason) => connection.close(code, reason),
    ];
  },

  "nodejs-websocket": (url) => {
    let opened = false;
    const connection = find("nodejs-websocket").connect(url, () => {
      opened = true;
      tell("open");
    });
    connection.on("text", message);
    connection.on("binary", (stream) => {
      const pieces = [];
      stream.on("data", (piece) => pieces.push(piece));
      stream.on("end", () => message(Buffer.concat(pieces)));
    });
    connection.on("close", (code, reason) => (opened ? closed(code, reason) : tell("refused", "-", "-")));
    connection.on("error", () => {});
    return [
      (received) => (typeof received === "string" ? connection.sendText(received) : connection.sendBinary(received)),
      (code, reason) => connection.close(code, reason),
    ];
  },
};

// A socket as browsers have it
function standard(socket) {
  let opened = false;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    opened = true;
    tell("open");
  };
  socket.onmessage = (event) => message(event.data);
  socket.onclose = (event) => (opened ? closed(event.code, event.reason) : tell("refused", "-", "-"));
  socket.onerror = () => {};
  return [(received) => socket.send(received), (code, reason) => socket.close(code, reason)];
}

let send, close;

async function answer(command, ...words) {
  if (command === "connect") {
    events.length = 0;
    [send, close] = clients[name](words[0]);
    return next();
  }
  if (command === "receive") {
    return next();
  }
  if (command === "close") {
    close(Number(words[0]), data(words[1]).toString());
    while ((await next())[0] !== "closed");
  } else {
    send(command === "text" ? data(words[0]).toString() : data(words[0]));
  }
  return ["done"];
}

async function main() {
  console.log("version", require(path.join(modules, name, "package.json")).version);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log((await answer(...line.split(" "))).join(" "));
  }
  process.exit();
}

main();
