#!/usr/bin/env bash
# faye-websocket 0.11.4 for Node.js: a server that restarts says 1012 ("Service Restart", registered with IANA), and the
# client reports 1002, a protocol error, with a reason of its own.
#
# RFC 6455 7.4.2 leaves 1000 to 2999 to the protocol's own later registrations, and 1012 to 1014 were registered in 2012
# and 2013. The driver below it knows the codes of 2011 and lets nothing else pass, so a client that is to come back at
# once after a restart cannot know of it. 1001, 1011 and 4999 arrive as they are.
#
# Seen: 1001 -> 1001, 1011 -> 1011, 1012 -> 1002, 1013 -> 1002, 4999 -> 4999.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund faye-websocket@0.11.4 websocket-driver@0.7.4 >/dev/null
cat >seen.cjs <<'END'
const net = require("net"), crypto = require("crypto"), { Client } = require("faye-websocket");
const answer = (key) => crypto.createHash("sha1").update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");

function seen(code) {
  return new Promise((resolve) => {
    const server = net.createServer((peer) => {
      peer.once("data", (head) => {
        const key = /sec-websocket-key: *(\S+)/i.exec(head)[1];
        peer.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${answer(key)}\r\n\r\n`);
        setTimeout(() => peer.write(Buffer.from([0x88, 2, code >> 8, code & 255])), 100);
        peer.on("error", () => {});
        peer.on("data", () => peer.end());
      });
    });
    server.listen(0, "127.0.0.1", () => {
      new Client(`ws://127.0.0.1:${server.address().port}/`).on("close", (event) => server.close() && resolve(event.code));
    });
  });
}

(async () => {
  const codes = [];
  for (const code of [1001, 1011, 1012, 1013, 4999]) codes.push([code, await seen(code)]);
  console.log(`faye-websocket ${require("faye-websocket/package.json").version}:`, codes.map((pair) => pair.join(" -> ")).join(", "));
  process.exit(JSON.stringify(codes.map((pair) => pair[1])) === "[1001,1011,1002,1002,4999]" ? 0 : 1);
})();
END
node seen.cjs
