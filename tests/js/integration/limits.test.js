// Limits of one address, forwarded addresses, and host names.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { emit, freshSession, join } from "../support/client.js";
import { launch, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { OPCODE, RawSocket, engineMember, event, frame, head, rawMember, request, tcp, text, upgradeHead } from "../support/wire.js";

/** Requests an upgrade. If the server accepts it, the connection stays open. */
async function upgrade(server, headers = {}) {
  const connection = await tcp(server);
  connection.write(upgradeHead(server, headers));
  const answer = await connection.readAnswer();
  return { ...answer, connection };
}

describe("HTTP requests", () => {
  let server;
  before(async () => (server = await startServer({ env: { SHARDS: "2", HTTP_REQUESTS_PER_IP: "100" } })));
  after(() => server.stop());

  test("one address may send 100 per second over all shards, then receives 429 with Retry-After", async () => {
    const member = await join(server, freshSession());
    // 200 requests at once. The server may accept more than 100 only if they take longer than 1 s.
    const connections = await Promise.all(Array.from({ length: 4 }, () => tcp(server)));
    const began = performance.now();
    const answers = await Promise.all(
      connections.map(async (connection) => {
        connection.write(head(server, "GET", "/health").repeat(50));
        const read = [];
        for (let i = 0; i < 50; i += 1) read.push(await connection.readAnswer());
        return read;
      }),
    );
    const seconds = (performance.now() - began) / 1000;
    const all = answers.flat();
    const granted = all.filter((answer) => answer.status === 200).length;
    const refused = all.filter((answer) => answer.status === 429);
    assert.equal(granted + refused.length, 200);
    assert.ok(granted >= 100 && granted <= 101 + seconds * 100, `${granted} in ${seconds} s`);
    for (const answer of refused) {
      assert.equal(answer.body, '{"error":"Too many requests"}');
      assert.match(answer.headers["content-type"], /^application\/json/);
      assert.match(answer.headers["retry-after"], /^[1-9]\d*$/);
    }
    // Members are not affected.
    assertDone(await emit(member, "latency_probe", { timestamp: 1 }));
  });

  test("waiting for Retry-After is long enough", async () => {
    let answer;
    do answer = await request(server, "GET", "/health");
    while (answer.status === 200);
    const ms = Number(answer.headers["retry-after"]) * 1000;
    await within(ms + PATIENCE_MS, new Promise((done) => setTimeout(done, ms)), "the wait is over");
    assert.equal((await request(server, "GET", "/health")).status, 200);
  });
});

describe("connections", () => {
  test("one address may have CONNECTIONS_PER_IP on a shard, and the next one receives 429", async () => {
    const server = await startServer({ env: { SHARDS: "1", CONNECTIONS_PER_IP: "3" } });
    try {
      const granted = [];
      for (let i = 0; i < 3; i += 1) granted.push(await upgrade(server));
      assert.deepEqual(granted.map((one) => one.status), [101, 101, 101]);
      const refused = await (await tcp(server)).readAnswer();
      assert.equal(refused.status, 429);
      assert.equal(refused.body, '{"error":"Too many connections"}');
      assert.match(refused.headers["retry-after"], /^\d+$/);
      granted[0].connection.destroy();
      const again = async () => {
        for (;;) {
          const { status, connection } = await upgrade(server).catch(() => ({ status: 0 }));
          if (status === 101) return;
          connection?.destroy();
        }
      };
      await within(PATIENCE_MS, again(), "a new connection is accepted again");
    } finally {
      await server.stop();
    }
  });

  test("one address may open HANDSHAKES_PER_IP per second", async () => {
    const server = await startServer({ env: { SHARDS: "1", HANDSHAKES_PER_IP: "5" } });
    try {
      const connections = await Promise.all(Array.from({ length: 30 }, () => tcp(server)));
      const answers = await Promise.all(
        connections.map(async (connection) => {
          connection.write(upgradeHead(server));
          return (await connection.readAnswer()).status;
        }),
      );
      assert.ok(answers.filter((status) => status === 101).length >= 10);
      assert.ok(answers.includes(429), `${answers}`);
    } finally {
      await server.stop();
    }
  });

  test("on a LAN this machine has no limit", async () => {
    const server = await startServer({ env: { SHARDS: "1" } });
    try {
      const granted = await Promise.all(Array.from({ length: 300 }, () => upgrade(server)));
      assert.ok(granted.every((one) => one.status === 101));
    } finally {
      await server.stop();
    }
  });
});

describe("behind a proxy, on the internet", () => {
  let server;
  const origin = "https://band.example";
  before(async () => {
    const env = { SECURITY_PROFILE: "internet", TRUSTED_PROXIES: "127.0.0.1", CORS_ORIGIN: origin, HTTP_REQUESTS_PER_IP: "20", SHARDS: "1" };
    server = await startServer({ env });
  });
  after(() => server.stop());

  test("each client has its own limits", async () => {
    const ask = (client) => request(server, "GET", "/health", { "X-Forwarded-For": client });
    const statuses = (answers) => new Set(answers.map((answer) => answer.status));
    const one = await Promise.all(Array.from({ length: 40 }, () => ask("203.0.113.1")));
    assert.ok(statuses(one).has(429));
    assert.equal((await ask("203.0.113.2")).status, 200);
    // A forged address in the header precedes the one that the proxy appends.
    const forged = await Promise.all(Array.from({ length: 40 }, (_, i) => ask(`198.51.100.${i}, 203.0.113.3`)));
    assert.ok(statuses(forged).has(429));
  });

  test("a client may make 10 handshakes per second", async () => {
    const answers = await Promise.all(Array.from({ length: 33 }, () => upgrade(server, { "X-Forwarded-For": "203.0.113.9" })));
    assert.ok(answers.some((one) => one.status === 429));
    const other = await upgrade(server, { "X-Forwarded-For": "203.0.113.10" });
    assert.equal(other.status, 101);
  });

  test("only the listed pages connect", async () => {
    const from = (page, client) => upgrade(server, { Origin: page, "X-Forwarded-For": client });
    assert.equal((await from(origin, "203.0.113.21")).status, 101);
    assert.equal((await from("https://evil.example", "203.0.113.22")).status, 403);
    assert.equal((await from("null", "203.0.113.23")).status, 403);
  });

  test("the profile does not start without the settings that make it safe", async () => {
    for (const [env, missing] of [
      [{}, "TRUSTED_PROXIES"],
      [{ TRUSTED_PROXIES: "127.0.0.1" }, "CORS_ORIGIN"],
      [{ TRUSTED_PROXIES: "127.0.0.1", CORS_ORIGIN: "*" }, "CORS_ORIGIN"],
    ]) {
      const end = await launch({ env: { PORT: "0", SECURITY_PROFILE: "internet", ...env } }).exited;
      assert.equal(end.code, 2);
      assert.match(end.stderr, new RegExp(missing));
    }
  });
});

describe("names on a LAN", () => {
  let server;
  before(async () => (server = await startServer({ env: { ALLOWED_HOSTS: "stage.example" } })));
  after(() => server.stop());

  const page = (host) => ({ Host: host, Origin: `http://${host}` });

  test("a foreign name that resolves to this address is rejected (DNS rebinding)", async () => {
    assert.equal((await upgrade(server, page("evil.example:3001"))).status, 403);
    const polling = await request(server, "GET", "/socket.io/?EIO=4&transport=polling", { Host: "evil.example" });
    assert.ok([400, 403].includes(polling.status), `${polling.status}`);
  });

  test("addresses, local names and ALLOWED_HOSTS are names of the server", async () => {
    for (const host of ["192.168.1.5:3001", "localhost:3001", "stage.local", "laptop:3001", "[fd00::1]:3001", "stage.example"]) {
      assert.equal((await upgrade(server, page(host))).status, 101, host);
    }
  });
});

describe("event rates and a full server", () => {
  let server;
  before(async () => (server = await startServer({ env: { EVENT_RATES: "chat_message=2,refusals=0" } })));
  after(() => server.stop());

  test("500 pings in one piece are answered by fewer pongs, the last one included", async () => {
    const raw = await rawMember(server);
    const pings = Array.from({ length: 500 }, (_, i) => frame(OPCODE.ping, String(i)));
    raw.send(...pings, text(event("latency_probe", { timestamp: 1 }, 1)));
    const pongs = [];
    while (pongs.at(-1) !== "499") {
      const { opcode, payload } = await raw.readFrame();
      if (opcode === OPCODE.pong) pongs.push(payload.toString());
    }
    assert.deepEqual(pongs.slice(0, 10), Array.from({ length: 10 }, (_, i) => String(i)));
    assert.ok(pongs.length < 500, "a flood is not amplified");
  });

  test("an event has the rate that EVENT_RATES sets", async () => {
    const member = await engineMember(server);
    const sessionId = freshSession();
    member.send(event("join_session", { sessionId }, 1));
    await member.readAck(1);
    const answers = [];
    for (let i = 10; i < 20; i += 1) {
      member.send(event("chat_message", { sessionId, message: "la" }, i));
      answers.push((await member.readAck(i))[0]);
    }
    assert.ok(answers.slice(0, 4).every((answer) => answer.ok), "a burst of twice the rate is accepted");
    assert.ok(answers.some((answer) => answer.error?.code === "rate_limited"));
  });

  test("a full server receives new clients with 503 and Retry-After", async () => {
    const small = await startServer({ env: { SHARDS: "1", MAX_CONNECTIONS: "2" } });
    try {
      const held = [new RawSocket(await tcp(small)), new RawSocket(await tcp(small))];
      const refused = await (await tcp(small)).readAnswer();
      assert.equal(refused.status, 503);
      assert.equal(refused.body, '{"error":"Too many connections"}');
      assert.match(refused.headers["retry-after"], /^\d+$/);
      assert.equal(held.length, 2);
    } finally {
      await small.stop();
    }
  });
});
