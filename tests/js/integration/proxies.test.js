// The shipped files for nginx, HAProxy and Caddy: stock clients connect through TLS under a public
// name, and all members of a session reach the same node. In front of a cluster a member may be on any
// node, and one that drains receives no new clients.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { emit, freshSession, next } from "../support/client.js";
import { NAME, PROXIES, has, nodeSettings, publicPorts, startProxy } from "../support/deploy.js";
import { Nodes, ownerOf } from "../support/nodes.js";
import { health } from "../support/owned.js";
import { until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { engineMember, request } from "../support/wire.js";

/** Sessions that are tried until one is on a certain node of two. By chance this fails once in 2³². */
const TRIES = 32;

/** A stock client at the public name, which resolves to this machine. */
async function through(proxy, options) {
  const socket = io(proxy.origin, { agent: proxy.agent, ca: proxy.ca, forceNew: true, reconnection: false, ...options });
  socket.received = [];
  socket.onAny((event, payload) => socket.received.push({ event, payload }));
  const connected = new Promise((done, fail) => {
    socket.once("connect", done);
    socket.once("connect_error", (error) => fail(new Error(`${error.message}: ${error.description?.message ?? error.context?.responseText ?? ""}`)));
  });
  await within(PATIENCE_MS, connected, `a connection through ${proxy.name}`);
  return socket;
}

/** Joins until the session is open: while a node takes it over, joins are rejected as unavailable. */
const admitted = (socket, sessionId) =>
  until("the member is admitted", async () => {
    const ack = await emit(socket, "join_session", { sessionId, displayName: "a guest" });
    if (!ack.ok) throw new Error(JSON.stringify(ack));
    return true;
  });

/** Options of a client whose address names its session. */
const named = (sessionId) => ({ query: { sessionId } });

for (const [name, { version }] of Object.entries(PROXIES)) {
  const missing = !has("openssl", "version") ? "openssl" : has(name, version) ? "" : name;
  describe(name, { skip: missing !== "" && `${missing} is not here: apt-get install ${missing}` }, () => {
    let nodes, proxy;
    const sockets = [];

    before(async () => {
      const ports = await publicPorts();
      const env = { ...nodeSettings(ports.https), STORAGE: "memory", LOG_LEVEL: "info", ADMIN_TOKEN: "a-token-of-some-length" };
      nodes = await Promise.all([startServer({ env }), startServer({ env })]);
      proxy = await startProxy(name, nodes, ports);
    });
    after(async () => {
      for (const socket of sockets) socket.disconnect();
      await proxy?.stop();
      for (const node of nodes ?? []) await node.stop();
    });

    const connect = async (options) => {
      const socket = await through(proxy, options);
      sockets.push(socket);
      return socket;
    };
    const browser = () => ({ extraHeaders: { Origin: proxy.origin } });
    const counts = () => Promise.all(nodes.map(async (node) => JSON.parse((await request(node, "GET", "/health")).body).sessions.members));

    test("members of a session meet by WebSocket, by polling, and by an upgrade as in pages", async () => {
      const sessionId = freshSession(`through-${name}`);
      const ways = [
        { transports: ["websocket"] },
        { transports: ["polling"] },
        { transports: ["websocket"], ...browser() },
        { transports: ["polling"], ...browser() },
        // Browsers begin by polling, then upgrade.
        browser(),
      ];
      const band = [];
      for (const way of ways) {
        const member = await connect({ ...way, ...named(sessionId) });
        assertDone(await emit(member, "join_session", { sessionId, displayName: `member ${band.length}` }));
        band.push(member);
      }
      const received = band.map((member) => next(member, "play", () => true));
      const ticks = band.map((member) => next(member, "scroll_tick", (tick) => tick.positionMs > 0));
      assertDone(await emit(band[0], "play", { sessionId }));
      for (const play of await Promise.all(received)) assert.equal(play.sessionId, sessionId);
      await Promise.all(ticks);
      assert.equal(band[1].io.engine.transport.name, "polling");
      await within(PATIENCE_MS, new Promise((done) => (band[4].io.engine.transport.name === "websocket" ? done() : band[4].io.engine.once("upgrade", done))), "the upgrade");
      assert.deepEqual((await counts()).sort(), [0, 5], "all members are on one node");
      assertDone(await emit(band[0], "pause", { sessionId }));
      for (const member of band) member.disconnect();
    });

    test("sessions are spread over both nodes, and each stays together", async () => {
      // The members of the last test are still leaving.
      await until("both nodes are empty", async () => (await counts()).every((count) => count === 0));
      const bands = await Promise.all(
        Array.from({ length: 12 }, async (_, i) => {
          const sessionId = `spread-${name}-${i}`;
          const two = await Promise.all([connect({ transports: ["websocket"], ...named(sessionId) }), connect({ transports: ["polling"], ...named(sessionId) })]);
          for (const member of two) assertDone(await emit(member, "join_session", { sessionId, displayName: "one of two" }));
          const stats = await emit(two[0], "sync_request", { sessionId });
          assertDone(stats);
          return two;
        }),
      );
      const now = await counts();
      assert.equal(now[0] + now[1], 24);
      assert.ok(now.every((count) => count > 0 && count % 2 === 0), `${now}`);
      for (const member of bands.flat()) member.disconnect();
    });

    test("clients that name no session stay on one node while they poll", async () => {
      const members = [];
      for (let i = 0; i < 4; i += 1) members.push(await connect({ transports: ["polling"] }));
      const sessionId = freshSession("unnamed");
      for (const member of members) assertDone(await emit(member, "join_session", { sessionId, displayName: "a guest" }));
      const chat = members.map((member) => next(member, "chat_message", (one) => one.message === "here"));
      assertDone(await emit(members[0], "chat_message", { sessionId, message: "here" }));
      await Promise.all(chat);
      for (const member of members) member.disconnect();
    });

    test("the page is served, and no other page may connect", async () => {
      const page = await proxy.get("/", { Accept: "text/html" });
      assert.equal(page.status, 200);
      assert.match(page.headers["content-type"], /^text\/html/);
      const handshake = "/socket.io/?EIO=4&transport=polling&sessionId=page";
      const upgrade = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" };
      for (const [origin, polling, websocket] of [
        [proxy.origin, 200, 101],
        ["https://evil.example", 403, 403],
        [`http://${NAME}`, 403, 403],
        ["null", 403, 403],
      ]) {
        assert.equal((await proxy.get(handshake, { Origin: origin })).status, polling, origin);
        const path = "/socket.io/?EIO=4&transport=websocket&sessionId=page";
        assert.equal((await proxy.get(path, { Origin: origin, ...upgrade }, { agent: proxy.agent })).status, websocket, origin);
      }
    });

    test("pages for operators need the token, and probes do not", async () => {
      for (const path of ["/metrics", "/metrics/prometheus", "/metrics/history", "/dashboard/data"]) {
        for (const claim of [{}, { "X-Forwarded-For": "127.0.0.1" }, { Forwarded: "for=127.0.0.1" }]) {
          assert.equal((await proxy.get(path, claim)).status, 401, `${path} ${JSON.stringify(claim)}`);
        }
        assert.equal((await proxy.get(path, { Authorization: "Bearer a-token-of-some-length" })).status, 200, path);
      }
      for (const path of ["/health", "/livez", "/readyz"]) assert.equal((await proxy.get(path)).status, 200, path);
    });

    // The test switches Caddy's own redirect off, because that needs port 80.
    if (name !== "caddy") test("plain HTTP is redirected to HTTPS", async () => {
      const { status, location } = await new Promise((done, fail) => {
        http.get({ host: "127.0.0.1", port: proxy.http, path: "/", headers: { Host: NAME } }, (answer) => {
          answer.resume();
          done({ status: answer.statusCode, location: answer.headers.location });
        }).on("error", fail);
      });
      assert.ok([301, 302].includes(status), `${status}`);
      assert.equal(location, `https://${NAME}/`);
    });

    test("a node that has ended receives no more clients", async () => {
      const [gone] = nodes.splice(0, 1);
      await gone.stop();
      const sessions = Array.from({ length: 8 }, (_, i) => `left-out-${i}`);
      const open = (sessionId) => proxy.get(`/socket.io/?EIO=4&transport=polling&sessionId=${sessionId}`).then(({ status }) => status, () => 0);
      for (const deadline = performance.now() + 2 * PATIENCE_MS; ; ) {
        const statuses = await Promise.all(sessions.map(open));
        if (statuses.every((status) => status === 200)) break;
        assert.ok(performance.now() < deadline, `${statuses}`);
        await new Promise((done) => setTimeout(done, 200));
      }
    });
  });
}

for (const [name, { version }] of Object.entries(PROXIES)) {
  const missing = !has("openssl", "version") ? "openssl" : has(name, version) ? "" : name;
  describe(`${name} in front of a cluster`, { skip: missing !== "" && `${missing} is not here: apt-get install ${missing}` }, () => {
    let nodes, proxy;
    const sockets = [];

    before(async () => {
      const ports = await publicPorts();
      // All clients have one address here, and one that reads nothing holds the drain of a node open.
      const limits = { EVENT_RATES: "default", HANDSHAKES_PER_IP: "0", CONNECTIONS_PER_IP: "0", HTTP_REQUESTS_PER_IP: "0" };
      const env = { ...nodeSettings(ports.https), ...limits, LEASE_TTL: "10000", DRAIN_TIMEOUT: "60000", SOCKET_PING_TIMEOUT: "60000", SHARDS: "1" };
      nodes = await Nodes.start(2, env);
      proxy = await startProxy(name, nodes.all, ports);
    });
    after(async () => {
      for (const socket of sockets) socket.disconnect();
      await proxy?.stop();
      await nodes?.stop();
    });

    const connect = async (options) => {
      const socket = await through(proxy, options);
      sockets.push(socket);
      return socket;
    };
    /** The number of clients of each node. */
    const counts = () => Promise.all(nodes.all.map(async (node) => (await health(node)).connections));
    async function empty() {
      for (const socket of sockets.splice(0)) socket.disconnect();
      await until("both nodes are empty", async () => (await counts()).every((count) => count === 0));
    }

    /** Joins through the proxy and returns the client and its node. No client may leave meanwhile. */
    async function enter(sessionId, options) {
      const before = await counts();
      const socket = await connect(options);
      await admitted(socket, sessionId);
      const after = await counts();
      return { socket, node: nodes.all[after.findIndex((count, n) => count > before[n])] };
    }

    test("a member whose address names no session is served too, from any node", async () => {
      const guest = await enter(freshSession("elsewhere"), { transports: ["polling"] });
      // A session whose members are sent to the other node.
      let sessionId, first;
      for (let tries = 1; first === undefined || first.node === guest.node; tries += 1) {
        assert.ok(tries < TRIES, "sessions are spread over both nodes");
        sessionId = freshSession(`home-${name}`);
        first = await enter(sessionId, { transports: ["websocket"], ...named(sessionId) });
      }
      const band = [first.socket];
      for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
        const { socket, node } = await enter(sessionId, { transports });
        assert.equal(node, guest.node, "by its address");
        band.push(socket);
      }
      assert.equal(await ownerOf(nodes, sessionId), first.node);
      const chat = band.map((member) => next(member, "chat_message", ({ message }) => message === "here"));
      const ticks = band.map((member) => next(member, "scroll_tick", ({ positionMs }) => positionMs > 0));
      assertDone(await emit(band[0], "play", { sessionId }));
      assertDone(await emit(band[1], "chat_message", { sessionId, message: "here" }));
      await Promise.all([...chat, ...ticks]);
    });

    test("clients that poll with an id of their own stay on one node, and are spread over both", async () => {
      await empty();
      const sessionId = freshSession("by-client");
      const band = [];
      for (let n = 0; n < 12; n += 1) {
        const member = await connect({ transports: ["polling"], query: { clientId: `phone-${n}` } });
        await admitted(member, sessionId);
        band.push(member);
      }
      assert.ok((await counts()).every((count) => count > 0), "both nodes have clients");
      const chat = band.map((member) => next(member, "chat_message", ({ message }) => message === "all"));
      assertDone(await emit(band.at(-1), "chat_message", { sessionId, message: "all" }));
      await Promise.all(chat);
    });

    test("a node that drains receives no new clients, and its members return to the other one", async () => {
      await empty();
      let sessionId, member, node;
      const [leaves] = nodes.all;
      const reconnection = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
      for (let tries = 1; node !== leaves; tries += 1) {
        assert.ok(tries < TRIES, "sessions are spread over both nodes");
        sessionId = freshSession(`drained-${name}`);
        ({ socket: member, node } = await enter(sessionId, { transports: ["websocket"], ...named(sessionId), ...reconnection }));
      }
      // A client that reads nothing answers no goodbye, so the node waits for it.
      const stubborn = await engineMember(leaves);
      stubborn.ws._socket.pause();
      const back = new Promise((done) => member.io.once("reconnect", done));
      leaves.signal("SIGTERM");
      const open = (n) => proxy.get(`/socket.io/?EIO=4&transport=polling&sessionId=new-${n}`).then(({ status }) => status, () => 0);
      const handshakes = (from) => Promise.all(Array.from({ length: 8 }, (_, n) => open(from + n)));
      await until("the node rejects clients", async () => (await request(leaves, "GET", "/socket.io/?EIO=4&transport=polling")).status === 503);
      await until("the proxy has noticed", async () => (await handshakes(0)).every((status) => status === 200));
      assert.deepEqual(new Set(await handshakes(8)), new Set([200]));
      assert.equal(leaves.run.child.exitCode, null, "the node has not ended yet");
      await within(PATIENCE_MS, back, "the member returns");
      await admitted(member, sessionId);
      const other = await connect({ transports: ["websocket"], ...named(sessionId) });
      await admitted(other, sessionId);
      const chat = next(member, "chat_message");
      assertDone(await emit(other, "chat_message", { sessionId, message: "together again" }));
      await chat;
      stubborn.ws.terminate();
      assert.equal((await within(PATIENCE_MS, leaves.exited, "the node ends")).code, 0);
    });
  });
}
