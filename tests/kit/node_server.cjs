// An echo server of Node's `ws`, which prints its port:
//
//     node node_server.cjs DIRECTORY_OF_WS COMPRESSES
"use strict";

const { WebSocketServer } = require(process.argv[2]);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: process.argv[3] === "yes" });
server.on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
server.on("listening", () => process.stdout.write(`${server.address().port}\n`));
