// The shipped files for nginx, HAProxy and Caddy: stock clients connect through TLS under a public
// name, and all members of a session reach the same node.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { emit, freshSession, next } from "../support/client.js";
import { NAME, PROXIES, has, nodeSettings, publicPorts, startProxy } from "../support/deploy.js";
import { until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { request } from "../support/wire.js";

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

    /** A stock client at the public name, which resolves to this machine. */
    async function connect(options) {
      const socket = io(proxy.origin, { agent: proxy.agent, ca: proxy.ca, forceNew: true, reconnection: false, ...options });
      sockets.push(socket);
      const connected = new Promise((done, fail) => {
        socket.once("connect", done);
        socket.once("connect_error", (error) => fail(new Error(`${error.message}: ${error.description?.message ?? error.context?.responseText ?? ""}`)));
      });
      await within(PATIENCE_MS, connected, `a connection through ${name}`);
      return socket;
    }

    const browser = () => ({ extraHeaders: { Origin: proxy.origin } });
    const named = (sessionId) => ({ query: { sessionId } });
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
