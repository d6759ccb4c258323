// The server's own TLS: stock clients over `https`, slow readers, redirects, renewed certificates, and what is no TLS.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, test } from "node:test";
import tls from "node:tls";
import { connect, emit, freshSession, join, next } from "../support/client.js";
import { has } from "../support/deploy.js";
import { certificates } from "../support/certificates.js";
import { until } from "../support/redis.js";
import { launch, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, deferred, within } from "../support/wait.js";

const missing = !has("openssl", "version") && "openssl is not here: apt-get install openssl";

describe("TLS of its own", { skip: missing }, () => {
  let folder, files, server, ca;

  const env = () => ({ TLS_CERT: files.cert, TLS_KEY: files.key });

  before(async () => {
    folder = mkdtempSync(path(tmpdir(), "bandsync-tls-"));
    files = certificates(folder, ["localhost", "127.0.0.1"]);
    ca = readFileSync(files.authority);
    server = await startServer({ env: { ...env(), SCROLL_TICK_INTERVAL: "8", EVENT_RATES: "chat_message=0,total=0" } });
  });
  after(async () => {
    await server?.stop();
    if (folder) rmSync(folder, { recursive: true });
  });

  /** The answer to a request: its status, headers and body. */
  function get(page, { secure = true, headers = {}, ...more } = {}) {
    const answer = new Promise((done, fail) => {
      const options = { port: server.port, host: "127.0.0.1", path: page, ca, headers, agent: false, ...more };
      const asked = (secure ? https : http).get(options, (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (part) => (body += part));
        response.on("end", () => done({ status: response.statusCode, headers: response.headers, body }));
      });
      asked.on("error", fail);
    });
    return within(PATIENCE_MS, answer, `an answer to ${page}`);
  }

  /** A TLS connection, after its handshake. */
  async function secured(options = {}) {
    const socket = tls.connect({ port: server.port, host: "127.0.0.1", ca, ...options });
    server.owns(() => socket.destroy());
    await within(PATIENCE_MS, new Promise((done, fail) => socket.once("secureConnect", done).once("error", fail)), "the handshake");
    return socket;
  }

  test("a band plays by every way of connecting, on both shards", async () => {
    const sessionId = freshSession("secure");
    const ways = [{ transports: ["websocket"] }, { transports: ["polling"] }, {}, { transports: ["websocket"], perMessageDeflate: true }];
    const band = [];
    // Two members a way: the kernel puts them on either shard, and joining moves them to the session's.
    for (const way of [...ways, ...ways]) band.push(await join(server, sessionId, { displayName: "one" }, { ca, ...way }));
    const ticks = band.map((member) => next(member, "scroll_tick", (tick) => tick.positionMs > 0));
    assertDone(await emit(band[0], "play", { sessionId }));
    await Promise.all(ticks);
    const chat = band.map((member) => next(member, "chat_message"));
    assertDone(await emit(band[5], "chat_message", { sessionId, message: "heard by all" }));
    for (const { message } of await Promise.all(chat)) assert.equal(message, "heard by all");
    for (const member of band) member.disconnect();
  });

  test("both versions of TLS work, and a client resumes by its ticket", async () => {
    for (const version of ["TLSv1.2", "TLSv1.3"]) {
      const socket = await secured({ minVersion: version, maxVersion: version });
      assert.equal(socket.getProtocol(), version);
      const ticket = deferred();
      socket.once("session", ticket.resolve);
      if (version === "TLSv1.2") ticket.resolve(socket.getSession());
      socket.write("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
      const session = await within(PATIENCE_MS, ticket.promise, "a ticket");
      socket.destroy();
      const again = await secured({ minVersion: version, maxVersion: version, session });
      assert.equal(again.isSessionReused(), true, version);
      again.destroy();
    }
    await assert.rejects(secured({ minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" }));
  });

  test("the page is served, and plain HTTP on the same port leads to it", async () => {
    const page = await get("/");
    assert.equal(page.status, 200);
    assert.match(page.headers["content-type"], /^text\/html/);
    const redirect = await get("/?view=screen", { secure: false });
    assert.equal(redirect.status, 307);
    assert.equal(redirect.headers.location, `https://127.0.0.1:${server.port}/?view=screen`);
    assert.equal((await get("/", { secure: false, headers: { Host: "a/b" } })).status, 400);
    assert.match((await get("/asyncapi.json")).body, /"protocol":"wss"/);
  });

  test("a page may connect that came from here, by `https`", async () => {
    const own = await connect(server, { ca, extraHeaders: { Origin: server.url } });
    own.disconnect();
    await assert.rejects(connect(server, { ca, extraHeaders: { Origin: "https://evil.example" } }));
  });

  test("a reader that stops for a while misses ticks but no byte of what it receives", async () => {
    const sessionId = freshSession("slow");
    const leader = await join(server, sessionId, { role: "leader", displayName: "leader" }, { ca, transports: ["websocket"] });
    const slow = await join(server, sessionId, { displayName: "slow" }, { ca, transports: ["websocket"] });
    assertDone(await emit(leader, "play", { sessionId }));
    await next(slow, "scroll_tick");
    const socket = slow.io.engine.transport.ws._socket;
    const dropped = async () => {
      const text = (await get("/metrics/prometheus")).body;
      return [...text.matchAll(/^bandsync_ticks_dropped_total\{[^}]*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
    };
    const before = await dropped();
    // Messages that must arrive fill the buffers, then ticks are dropped between them.
    socket.pause();
    const words = "la ".repeat(150);
    let sent = 0;
    await until("ticks are dropped", async () => {
      for (let i = 0; i < 5; i += 1) {
        const answer = await emit(leader, "chat_message", { sessionId, message: `${sent} ${words}` });
        if (answer.ok) sent += 1;
      }
      return (await dropped()) > before + 20;
    });
    const last = next(slow, "chat_message", ({ message }) => message.startsWith(`${sent - 1} `));
    socket.resume();
    await last;
    const heard = slow.received.filter(({ event }) => event === "chat_message").map(({ payload }) => Number(payload.message.split(" ")[0]));
    assert.deepEqual(heard, Array.from({ length: sent }, (_, i) => i));
    await next(slow, "scroll_tick");
    slow.disconnect();
    leader.disconnect();
  });

  test("a long set list arrives whole, and is read slowly by others", async () => {
    const sessionId = freshSession("songs");
    const leader = await join(server, sessionId, { role: "leader", displayName: "leader" }, { ca });
    const slow = await join(server, sessionId, { displayName: "slow" }, { ca, transports: ["websocket"] });
    const socket = slow.io.engine.transport.ws._socket;
    const songs = Array.from({ length: 15 }, (_, i) => ({ id: `song-${i}`, title: `Song ${i}`, format: "chordpro", body: `[C]${i} ${"la ".repeat(19_000)}` }));
    socket.pause();
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { title: "All", songs } }));
    const list = next(slow, "setlist");
    socket.resume();
    assert.deepEqual((await list).setlist.songs.map(({ body }) => body), songs.map(({ body }) => body));
    slow.disconnect();
    leader.disconnect();
  });

  test("what is no TLS, or stops in its handshake, is closed and disturbs nobody", async () => {
    const plain = (bytes) => {
      const socket = net.connect(server.port, "127.0.0.1").on("error", () => {});
      server.owns(() => socket.destroy());
      const closed = new Promise((done) => socket.once("close", done));
      socket.resume();
      socket.write(bytes);
      return { socket, closed };
    };
    const odd = [
      Buffer.from("\x16\x03\x01\x00\x05hello", "latin1"),
      Buffer.from([0x16, 3, 1, 0x40, 1]),
      Buffer.alloc(20_000, 0x16),
      "SSH-2.0-client\r\n\r\n",
      `GET / HTTP/1.1\r\n${"a".repeat(9_000)}`,
    ];
    const ended = odd.map(plain);
    // This one is cut off in the middle of a record, by its own end.
    ended[1].socket.end();
    for (const [index, { closed }] of ended.entries()) await within(PATIENCE_MS, closed, `the end of connection ${index}`);
    assert.equal((await get("/livez")).status, 200);
  });

  test("a renewed certificate is used after SIGHUP, and a broken one is not", async () => {
    const serial = async () => {
      const socket = await secured();
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    };
    const kept = await connect(server, { ca, transports: ["websocket"] });
    const old = await serial();
    const elsewhere = mkdtempSync(path(tmpdir(), "bandsync-tls-"));
    try {
      const renewed = certificates(elsewhere, ["localhost", "127.0.0.1"]);
      ca = [ca, readFileSync(renewed.authority)];
      copyFileSync(renewed.cert, files.cert);
      // The key still belongs to the old one.
      server.signal("SIGHUP");
      await until("the log says so", () => /keeping the certificate.*does not belong/.test(server.logs));
      assert.equal(await serial(), old);
      copyFileSync(renewed.key, files.key);
      server.signal("SIGHUP");
      await until("the new one is used", async () => (await serial()) !== old);
      assert.equal(kept.connected, true);
    } finally {
      rmSync(elsewhere, { recursive: true });
      kept.disconnect();
    }
  });

  test("a server without its files does not start, and says what to do", async () => {
    const empty = path(folder, "empty.pem");
    writeFileSync(empty, "");
    const other = certificates(mkdtempSync(path(folder, "other-")), ["localhost"]);
    for (const [settings, expected] of [
      [{ TLS_CERT: files.cert }, /TLS requires TLS_KEY as well/],
      [{ TLS_KEY: files.key }, /TLS requires TLS_CERT as well/],
      [{ TLS_CERT: path(folder, "none.pem"), TLS_KEY: files.key }, /cannot read .*none\.pem/],
      [{ TLS_CERT: empty, TLS_KEY: files.key }, /empty\.pem must hold a certificate in PEM form/],
      [{ TLS_CERT: files.cert, TLS_KEY: empty }, /empty\.pem must hold a private key/],
      [{ TLS_CERT: files.cert, TLS_KEY: other.key }, /does not belong to the first certificate/],
    ]) {
      const end = await launch({ env: { PORT: "0", HOST: "127.0.0.1", STORAGE: "memory", ...settings } }).exited;
      assert.notEqual(end.code, 0);
      assert.match(end.stderr, expected);
    }
  });

  test("members are told goodbye over TLS when the server stops", async () => {
    const own = await startServer({ env: { ...env(), STORAGE: "memory" } });
    const member = await join(own, freshSession("bye"), { displayName: "one" }, { ca, transports: ["websocket"] });
    const closed = new Promise((done) => member.io.engine.transport.ws.addEventListener("close", ({ code }) => done(code)));
    own.signal("SIGTERM");
    // 1006 is the end of a connection without a closing frame.
    assert.notEqual(await within(PATIENCE_MS, closed, "the goodbye"), 1006);
    assert.equal((await own.exited).code, 0);
  });
});
