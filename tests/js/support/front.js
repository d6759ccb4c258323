// An HTTPS front of a server, as an operator's proxy would be, that can change files and go away.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certificates } from "./certificates.js";

/**
 * Starts a front before a server. `change(path, text)` may return another text for a file, so that a server with newer
 * files can be played. `close()` makes it refuse connections and ends open ones; `open()` brings it back on its port.
 */
export async function secureFront(server, { change = () => undefined } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "bandsync-front-"));
  const { key, cert } = certificates(folder, ["localhost", "127.0.0.1"]);
  const options = { key: readFileSync(key), cert: readFileSync(cert) };
  rmSync(folder, { recursive: true });
  const sockets = new Set();
  let listener = null;
  const front = { port: 0, url: "", change, asked: [] };

  const answer = (request, response) => {
    const path = request.url.split("?")[0];
    front.asked.push(path);
    // Tags of the server do not fit files that are changed here.
    const { "if-none-match": _, "accept-encoding": __, ...headers } = request.headers;
    const upstream = http.request({
      port: server.port,
      host: "127.0.0.1",
      path: request.url,
      method: request.method,
      headers,
    });
    upstream.on("response", (from) => {
      const parts = [];
      from.on("data", (part) => parts.push(part));
      from.on("end", () => {
        const body = Buffer.concat(parts);
        const changed = front.change(path, body);
        const { etag: ___, "content-length": ____, ...rest } = from.headers;
        response.writeHead(from.statusCode, rest).end(changed ?? body);
      });
    });
    upstream.on("error", () => response.destroy());
    request.pipe(upstream);
  };
  const upgrade = (request, socket, head) => {
    const far = net.connect(server.port, "127.0.0.1");
    for (const each of [socket, far]) each.on("error", () => {}).setNoDelay(true);
    far.on("close", () => socket.destroy());
    socket.on("close", () => far.destroy());
    const lines = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2)
      lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    far.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    far.write(head);
    far.pipe(socket).pipe(far);
  };

  front.open = async () => {
    listener = https.createServer(options, answer).on("upgrade", upgrade);
    listener.on("connection", (socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    });
    await new Promise((done, fail) => listener.once("error", fail).listen(front.port, "127.0.0.1", done));
    front.port = listener.address().port;
    front.url = `https://localhost:${front.port}`;
  };
  front.close = async () => {
    const closed = new Promise((done) => listener.close(done));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await front.open();
  server.owns(() => front.close());
  return front;
}
