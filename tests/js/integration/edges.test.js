// Requests that count as local, secrets that prove an identity, and HTTP answers: by raw bytes on
// the real binary.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, test } from "node:test";
import io from "socket.io-client-2";
import { freshSession, join, next } from "../support/client.js";
import { binary, startServer } from "../support/server.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { Tcp, head, request, tcp, upgradeHead } from "../support/wire.js";

const OPERATORS = ["/dashboard", "/dashboard/data", "/metrics", "/metrics/prometheus", "/metrics/history"];

/** Sends bytes unchanged on a connection of their own and returns the answer. */
async function raw(server, bytes, from) {
  const connection = from ? await tcpFrom(server, from) : await tcp(server);
  connection.write(Buffer.from(bytes, "latin1"));
  const answer = await connection.readAnswer();
  connection.destroy();
  return answer;
}

/** Connects from another address of this machine, which owns all addresses of 127.0.0.0/8. */
async function tcpFrom(server, localAddress) {
  const socket = net.connect({ port: server.port, host: "127.0.0.1", localAddress });
  const connection = new Tcp(socket);
  server.owns(() => connection.destroy());
  await within(PATIENCE_MS, new Promise((done, fail) => socket.once("connect", done).once("error", fail)), "the TCP connection");
  return connection;
}

const get = (server, target, lines = "") => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n${lines}\r\n`;

describe("requests that count as local", () => {
  const secret = "a-token-of-some-length";
  const forwarded = [
    "X-Forwarded-For: 192.0.2.1\r\n",
    "X-Forwarded-For: 127.0.0.1\r\n",
    "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 127.0.0.1\r\n",
    "x-fOrWaRdEd-fOr: \xff\r\n",
    "X-Forwarded-For:\r\n",
    "Forwarded: for=127.0.0.1\r\nForwarded: for=\xff\r\n",
    "Forwarded:\r\n",
    "X-Real-IP: \xc3\x28\r\n",
    "X-Real-IP: ::1\r\nX-Real-IP: ::1\r\n",
    "Via: 1.1 \x80\r\n",
    "X-Forwarded-Proto: https\r\n",
    "Forwarded-For: 127.0.0.1\r\n",
    "CDN-Loop: edge\r\n",
  ];

  for (const trusted of ["none", "127.0.0.1"]) {
    test(`exclude all that a proxy passed on (TRUSTED_PROXIES=${trusted})`, async () => {
      const open = await startServer({ env: { TRUSTED_PROXIES: trusted, HTTP_REQUESTS_PER_IP: "0" } });
      const guarded = await startServer({ env: { TRUSTED_PROXIES: trusted, ADMIN_TOKEN: secret, HTTP_REQUESTS_PER_IP: "0" } });
      for (const target of OPERATORS) {
        assert.equal((await raw(open, get(open, target))).status, 200, target);
        for (const lines of forwarded) {
          assert.equal((await raw(open, get(open, target, lines))).status, 403, `${target} ${JSON.stringify(lines)}`);
          assert.equal((await raw(guarded, get(guarded, target, lines))).status, 401, `${target} ${JSON.stringify(lines)}`);
          const token = `${lines}Authorization: Bearer ${secret}\r\n`;
          assert.equal((await raw(guarded, get(guarded, target, token))).status, 200, `${target} ${JSON.stringify(lines)}`);
        }
        assert.equal((await raw(guarded, get(guarded, target))).status, 401, "if a token is set, local requests need it too");
        const twice = `Authorization: Bearer ${secret}\r\nAuthorization: Bearer ${secret}\r\n`;
        assert.equal((await raw(guarded, get(guarded, target, twice))).status, 401, "two tokens count as none");
      }
      await Promise.all([open.stop(), guarded.stop()]);
    });
  }

  test("all clients with a malformed forwarding header share one limit", async () => {
    const env = { SECURITY_PROFILE: "internet", TRUSTED_PROXIES: "127.0.0.1", CORS_ORIGIN: "https://band.example", SHARDS: "1" };
    const server = await startServer({ env: { ...env, CONNECTIONS_PER_IP: "5", HANDSHAKES_PER_IP: "0", HTTP_REQUESTS_PER_IP: "5" } });
    const lines = (n) => [`X-Forwarded-For: 203.0.113.${n}\r\nX-Forwarded-For: \xff\r\n`, "X-Forwarded-For: \xff\r\n", `X-Real-IP: 203.0.113.${n}\r\n`][n % 3];
    const upgrades = [];
    for (let n = 0; n < 12; n += 1) {
      const connection = await tcp(server);
      const upgrade = upgradeHead(server).replace("\r\n\r\n", `\r\n${lines(n)}\r\n`);
      connection.write(Buffer.from(upgrade, "latin1"));
      upgrades.push((await connection.readAnswer()).status);
    }
    assert.deepEqual(upgrades, [...Array(5).fill(101), ...Array(7).fill(429)]);
    const asked = await Promise.all(Array.from({ length: 30 }, (_, n) => raw(server, get(server, "/health", lines(n)))));
    assert.ok(asked.some((answer) => answer.status === 429));
    assert.equal((await raw(server, get(server, "/health", "X-Forwarded-For: 203.0.113.200\r\n"))).status, 200);
    await server.stop();
  });

  test("one connection of a proxy carries requests of many clients", async () => {
    const env = { TRUSTED_PROXIES: "127.0.0.1", SHARDS: "1", CONNECTIONS_PER_IP: "2", HANDSHAKES_PER_IP: "0" };
    const server = await startServer({ env });
    const connection = await tcp(server);
    const statuses = [];
    for (const client of ["203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.1"]) {
      connection.write(head(server, "GET", "/socket.io/?EIO=4&transport=polling", { "X-Forwarded-For": client }));
      statuses.push((await connection.readAnswer()).status);
    }
    assert.deepEqual(statuses, [200, 200, 200, 200, 429]);
    await server.stop();
  });
});

describe("DNS rebinding", () => {
  const ask = (server, target, host) => raw(server, `GET ${target} HTTP/1.1\r\n${host}\r\n`);

  test("reaches no page for operators; probes and public pages allow any name", async () => {
    const server = await startServer({ env: { ALLOWED_HOSTS: "stage.example", LOG_LEVEL: "warn", HTTP_REQUESTS_PER_IP: "0" } });
    for (const target of [...OPERATORS, "/dashboard.js"]) {
      for (const host of ["evil.example", "127.0.0.1.evil.example:3001", "EVIL.example.", "evil%2eexample"]) {
        const answer = await ask(server, target, `Host: ${host}\r\n`);
        assert.equal(answer.status, 421, `${target} at ${host}`);
        assert.doesNotMatch(answer.body, /uptime|bandsync_/);
      }
      for (const host of ["localhost", "stage.example:80", "[::1]:3001", "10.0.0.1"]) {
        assert.equal((await ask(server, target, `Host: ${host}\r\n`)).status, 200, `${target} at ${host}`);
      }
      assert.equal((await ask(server, target, "")).status, 400, "no host");
      assert.equal((await ask(server, target, "Host: localhost\r\nHost: localhost\r\n")).status, 400, "two hosts");
      assert.equal((await ask(server, `http://evil.example${target}`, "Host: localhost\r\n")).status, 421);
      assert.equal((await ask(server, `http://localhost${target}`, "Host: evil.example\r\n")).status, 421);
      assert.equal((await ask(server, `http://localhost${target}`, "Host: localhost\r\n")).status, 200);
      assert.equal((await raw(server, `GET ${target} HTTP/1.0\r\n\r\n`)).status, 421);
    }
    for (const target of ["/health", "/", "/asyncapi.json", "/protocol", "/app.js"]) {
      assert.equal((await ask(server, target, "Host: evil.example\r\n")).status, 200, target);
    }
    const { stderr } = await server.stop();
    assert.match(stderr, /rejected \/metrics under the name evil\.example: add the name to ALLOWED_HOSTS/);
  });

  test("on the internet an unlisted name needs the token", async () => {
    const env = { SECURITY_PROFILE: "internet", TRUSTED_PROXIES: "10.0.0.1", CORS_ORIGIN: "https://band.example" };
    const open = await startServer({ env });
    assert.equal((await ask(open, "/metrics", "Host: evil.example\r\n")).status, 421);
    assert.equal((await ask(open, "/metrics", "Host: localhost\r\n")).status, 200);
    const guarded = await startServer({ env: { ...env, ADMIN_TOKEN: "a-token-of-some-length" } });
    const token = "Authorization: Bearer a-token-of-some-length\r\n";
    assert.equal((await ask(guarded, "/metrics", `Host: api.example\r\n${token}`)).status, 200);
    assert.equal((await ask(guarded, "/metrics", "Host: api.example\r\n")).status, 401);
    await Promise.all([open.stop(), guarded.stop()]);
  });
});

test("a stranger's /health names no path, no host and no shard", async () => {
  const folder = mkdtempSync(path(tmpdir(), "bandsync-taken-"));
  const env = { STORAGE: "file", DATA_DIR: folder, HTTP_REQUESTS_PER_IP: "0" };
  const first = await startServer({ env });
  // The first server has the file, so the second reports its path as the reason.
  const second = await startServer({ env });
  const own = () => raw(second, get(second, "/health")).then((answer) => answer.body);
  const reported = async () => {
    for (;;) if ((await own()).includes(folder)) return;
  };
  await within(PATIENCE_MS, reported(), "the reason with its path").catch(() => {});
  for (const lines of ["X-Forwarded-For: \xff\r\n", "Via: a\r\nVia: b\r\n"]) {
    const { body } = await raw(second, get(second, "/health", lines));
    assert.equal(JSON.parse(body).status, "degraded");
    assert.ok(!body.includes(folder) && !body.includes("shards"), body);
  }
  const rebound = await raw(second, "GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n");
  assert.ok(rebound.status === 200 && !rebound.body.includes(folder), rebound.body);
  await second.stop();
  await first.stop();
  rmSync(folder, { recursive: true });
});

describe("an old client that polls", () => {
  const old = (server, options) => {
    const socket = io(server.url, { transports: ["polling"], reconnection: false, forceNew: true, ...options });
    server.owns(() => socket.disconnect());
    const connected = new Promise((done, fail) => {
      socket.once("connect", () => done(socket));
      for (const event of ["connect_error", "error"]) socket.once(event, fail);
    });
    return within(PATIENCE_MS, connected, "the old client connects");
  };
  const emit = (socket, event, payload) =>
    within(PATIENCE_MS, new Promise((done) => socket.emit(event, payload, done)), `${event} is acknowledged`);

  test("cannot be impersonated by a member that reads its public id", async () => {
    const server = await startServer({ env: { SHARDS: "4" } });
    const sessionId = freshSession();
    const leader = await old(server);
    assert.equal((await emit(leader, "join_session", { sessionId, displayName: "Óld", role: "leader" })).ok, true);
    const member = await join(server, sessionId);
    let played = false;
    member.on("play", () => (played = true));
    const target = `/socket.io/?EIO=3&transport=polling&sid=${leader.id}`;
    const play = `42${JSON.stringify(["play", { sessionId }])}`;
    const bodies = [`${play.length}:${play}`, "1:1", "nonsense"];
    for (const from of ["127.0.0.2", "127.1.2.3"]) {
      for (const body of bodies) {
        const post = head(server, "POST", target, { "Content-Length": String(body.length) }) + body;
        assert.equal((await raw(server, post, from)).status, 400);
      }
      assert.equal((await raw(server, head(server, "GET", target), from)).status, 400);
      const upgrade = upgradeHead(server, {}, target.replace("polling", "websocket"));
      assert.equal((await raw(server, upgrade, from)).status, 400);
    }
    const chat = next(member, "chat_message");
    assert.equal((await emit(leader, "chat_message", { sessionId, message: "still me" })).ok, true);
    assert.equal((await chat).message, "still me");
    assert.equal(played, false);
    await server.stop();
  });

  test("must send its cookie after it has returned it once", async () => {
    const server = await startServer();
    const opened = await raw(server, head(server, "GET", "/socket.io/?EIO=3&transport=polling"));
    const sid = /"sid":"([^"]+)"/.exec(opened.body)[1];
    const cookie = /^io=([^;]+); Path=\/; HttpOnly; SameSite=Lax$/.exec(opened.headers["set-cookie"])[1];
    assert.notEqual(cookie, sid);
    const ping = (headers) =>
      raw(server, `${head(server, "POST", `/socket.io/?EIO=3&transport=polling&sid=${sid}`, { "Content-Length": "3", ...headers })}1:2`);
    assert.equal((await ping({})).status, 200);
    assert.equal((await ping({ Cookie: `x=y; io=${cookie}` })).status, 200);
    assert.equal((await ping({})).status, 400);
    assert.equal((await ping({ Cookie: `io=${sid}` })).status, 400);
    assert.equal((await ping({ Cookie: `io=${cookie}` })).status, 200);
    await server.stop();
  });

  test("a recording with a returned cookie replays", async () => {
    const directory = mkdtempSync(path(tmpdir(), "bandsync-bond-"));
    const server = await startServer({ env: { SHARDS: "1", RECORD_DIR: directory } });
    const opened = await raw(server, head(server, "GET", "/socket.io/?EIO=3&transport=polling"));
    const sid = /"sid":"([^"]+)"/.exec(opened.body)[1];
    const cookie = /^io=([^;]+)/.exec(opened.headers["set-cookie"])[1];
    const target = `/socket.io/?EIO=3&transport=polling&sid=${sid}`;
    for (const value of [`io=${cookie}; other=secret`, "io=AAAAAAAAAAAAAAAAAAAA", `session=secret; io=${cookie}`]) {
      await raw(server, `${head(server, "POST", target, { "Content-Length": "3", Cookie: value })}1:2`);
    }
    await raw(server, head(server, "GET", "/socket.io/?EIO=3&transport=polling", { Cookie: `io=${cookie}` }));
    await server.stop();
    const replayed = spawnSync(binary, ["replay", directory], { encoding: "utf8" });
    assert.equal(replayed.status, 0, replayed.stdout + replayed.stderr);
    rmSync(directory, { recursive: true });
  });

  test("on the internet connects by WebSocket, and polls only if ENGINE_IO_3 is on", async () => {
    const env = { SECURITY_PROFILE: "internet", TRUSTED_PROXIES: "10.0.0.1", CORS_ORIGIN: "https://band.example" };
    const server = await startServer({ env });
    await old(server, { transports: ["websocket"] });
    await assert.rejects(old(server));
    const { stderr } = await server.stop();
    assert.match(stderr, /WARN|warn/);
    assert.match(stderr, /ENGINE_IO_3=on/);
    const on = await startServer({ env: { ...env, ENGINE_IO_3: "on" } });
    await old(on);
    await on.stop();
    const off = await startServer({ env: { ENGINE_IO_3: "off" } });
    for (const transport of ["websocket", "polling"]) await assert.rejects(old(off, { transports: [transport] }), transport);
    await off.stop();
  });
});

describe("HTTP", () => {
  let server;
  before(async () => (server = await startServer({ env: { LOG_LEVEL: "warn", HTTP_REQUESTS_PER_IP: "0" } })));
  after(() => server.stop());

  test("bodies of requests that take none are rejected, and never read as a request", async () => {
    const opened = await request(server, "GET", "/socket.io/?EIO=4&transport=polling");
    const sid = /"sid":"([^"]+)"/.exec(opened.body)[1];
    const inside = head(server, "GET", "/from-the-body");
    for (const target of ["/", "/health", "/nowhere", `/socket.io/?EIO=4&transport=polling&sid=${sid}`, "/socket.io/?EIO=4&transport=polling"]) {
      for (const method of ["GET", "HEAD"]) {
        for (const length of [{ "Content-Length": String(inside.length) }, { "Transfer-Encoding": "chunked" }, { "Transfer-Encoding": "x" }]) {
          const connection = await tcp(server);
          connection.write(head(server, method, target, length));
          assert.equal((await connection.readAnswer()).status, 400, `${method} ${target} ${JSON.stringify(length)}`);
          connection.write(inside);
          await connection.closed();
          assert.equal(connection.buffer.length, 0, "there is one answer");
        }
      }
    }
    for (const method of ["GET", "POST"]) {
      const upgrade = upgradeHead(server, { "Content-Length": "4" }).replace("GET", method);
      assert.equal((await raw(server, `${upgrade}abcd`)).status, 400);
    }
    const connection = await tcp(server);
    connection.write(head(server, "PUT", "/health", { "Content-Length": String(inside.length) }));
    assert.equal((await connection.readAnswer()).status, 405);
    connection.write(inside);
    await connection.closed();
    assert.equal(connection.buffer.length, 0);
  });

  test("headers of helmet and the date are part of every answer", async () => {
    const opened = await request(server, "GET", "/socket.io/?EIO=3&transport=polling");
    const answers = [
      opened,
      ...(await Promise.all(["/", "/health", "/metrics", "/nowhere", "/socket.io/?EIO=4"].map((target) => request(server, "GET", target)))),
      await raw(server, get(server, "/metrics", "Via: x\r\n")),
      await raw(server, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
      await raw(server, "nonsense\r\n\r\n"),
      await raw(server, get(server, "/", "Content-Length: 1\r\n")),
      await request(server, "OPTIONS", "/"),
      await request(server, "POST", "/", { "Content-Length": "0" }),
      await request(server, "POST", `/socket.io/?EIO=3&transport=polling&sid=${/"sid":"([^"]+)"/.exec(opened.body)[1]}`, { "Content-Length": "3" }, "1:2"),
      await raw(server, upgradeHead(server)),
      await raw(server, upgradeHead(server, { Origin: "https://evil.example" })),
    ];
    assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200, 200, 404, 400, 403, 421, 400, 400, 204, 405, 200, 101, 403]);
    for (const { first, headers } of answers) {
      assert.match(headers.date, /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/, first);
      assert.ok(Math.abs(Date.parse(headers.date) - Date.now()) < 60_000, `${headers.date} of ${first}`);
      for (const [name, value] of [
        ["origin-agent-cluster", "?1"],
        ["x-dns-prefetch-control", "off"],
        ["x-download-options", "noopen"],
        ["x-permitted-cross-domain-policies", "none"],
        ["x-xss-protection", "0"],
        ["x-content-type-options", "nosniff"],
        ["cross-origin-opener-policy", "same-origin"],
      ]) {
        assert.equal(headers[name], value, `${name} of ${first}`);
      }
    }
  });

  test("/ is JSON for programs that prefer it", async () => {
    for (const accept of ["application/json", "application/json, text/plain, */*", "text/html;q=0.5, application/json;q=0.6"]) {
      const answer = await request(server, "GET", "/", { Accept: accept });
      assert.equal(answer.body, '{"ok":true}', accept);
      assert.match(answer.headers["content-type"], /^application\/json/);
      assert.match(answer.headers.vary, /Accept/);
    }
    for (const headers of [{}, { Accept: "*/*" }, { Accept: "text/html,application/xhtml+xml,*/*;q=0.8" }, { Accept: "application/json;q=0.5, text/html" }]) {
      assert.match((await request(server, "GET", "/", headers)).headers["content-type"], /^text\/html/);
    }
    const bare = await request(server, "HEAD", "/", { Accept: "application/json" });
    assert.equal(bare.headers["content-length"], "11");
  });

  test("a refused page causes one line at warn with its name and the setting", async () => {
    const before = server.logs.length;
    await raw(server, upgradeHead(server, { Origin: "https://fan.example" }));
    await raw(server, upgradeHead(server, { Host: "tour.example", Origin: "https://tour.example" }));
    await raw(server, head(server, "GET", "/socket.io/?EIO=4&transport=polling", { Host: "tour2.example" }));
    // The lines of several shards come in any order, and the last line may still be incomplete.
    const lines = () => server.logs.slice(before).split("\n").slice(0, -1).filter((line) => /example/.test(line));
    await within(PATIENCE_MS, (async () => {
      while (lines().length < 3) await new Promise(setImmediate);
    })(), "three lines are logged");
    const [origin, host, polled] = [/fan\.example/, /tour\.example/, /tour2\.example/].map((name) => lines().find((line) => name.test(line)));
    assert.equal(lines().length, 3);
    assert.match(origin, /warn.*https:\/\/fan\.example.*CORS_ORIGIN/i);
    assert.match(host, /warn.*tour\.example.*ALLOWED_HOSTS/i);
    assert.match(polled, /warn.*tour2\.example.*ALLOWED_HOSTS/i);
  });
});
