// Plain HTTP on the same port: pages, answers, and malformed requests.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import http from "node:http";
import { gunzipSync } from "node:zlib";
import { after, before, describe, test } from "node:test";
import { band, emit } from "../support/client.js";
import { residentBytes, startServer } from "../support/server.js";
import { assertDone, assertShape } from "../support/shape.js";
import { head, request, tcp } from "../support/wire.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const json = (answer) => {
  assert.match(answer.headers["content-type"], /^application\/json/);
  return JSON.parse(answer.body);
};

describe("pages and answers", () => {
  test("/health counts the connected band", async () => {
    const { sessionId, leader } = await band(server, 3);
    assertDone(await emit(leader, "play", { sessionId }));
    const answer = await request(server, "GET", "/health");
    assert.equal(answer.status, 200);
    const health = json(answer);
    // First the fields of the Node.js server with its types and units, then ours.
    assertShape(health, {
      status: "string",
      timestamp: "string",
      uptime: "number",
      redis: "boolean",
      memory: "object",
      connections: "number",
      reasons: "array",
      redisStatus: "string",
      storage: "object",
      connectionsDetail: "object",
      sessions: "object",
    });
    assertShape(health.memory, { rss: "number", heapUsed: "number" });
    assertShape(health.storage, { place: "string", status: "string" });
    assertShape(health.connectionsDetail, { current: "number", peak: "number", http: "number" });
    assertShape(health.sessions, { active: "number", total: "number", members: "number" });
    assert.deepEqual([health.status, health.redis, health.redisStatus], ["healthy", false, "disabled"]);
    assert.match(health.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(health.uptime >= 0);
    assert.ok(health.connections >= 3 && health.connections === health.connectionsDetail.current, answer.body);
    assert.ok(health.sessions.active >= 1, answer.body);
    const resident = residentBytes(server.pid);
    assert.ok(health.memory.rss > resident / 4 && health.memory.rss < resident * 4, `${health.memory.rss} for ${resident}`);
    assert.ok(health.memory.heapUsed > 100_000, answer.body);
  });

  test("a polling session counts as a connection", async () => {
    const before = json(await request(server, "GET", "/health")).connections;
    assert.equal((await request(server, "GET", "/socket.io/?EIO=4&transport=polling")).status, 200);
    assert.equal(json(await request(server, "GET", "/health")).connections, before + 1);
  });

  test("a degraded server says why from its first second on", async () => {
    // /dev/null is not a directory, so nothing can be stored.
    const degraded = await startServer({ env: { STORAGE: "file", DATA_DIR: "/dev/null" } });
    const health = json(await request(degraded, "GET", "/health"));
    assert.deepEqual([health.status, health.reasons.map((reason) => reason.name)], ["degraded", ["storage"]]);
    assert.match(health.reasons[0].message, /storage/);
    await degraded.stop();
  });

  test("/livez and /readyz answer for supervisors and balancers, under any name", async () => {
    for (const [path, body] of [["/livez", '{"live":true}'], ["/readyz", '{"ready":true}']]) {
      for (const host of [undefined, "band.example", "10.0.0.11"]) {
        const answer = await request(server, "GET", path, host ? { Host: host } : {});
        assert.deepEqual([answer.status, answer.body], [200, body], `${path} of ${host}`);
        assert.equal(answer.headers["cache-control"], "no-store");
      }
    }
  });

  test("pages and metrics are compressed for clients that accept that, with the same content", async () => {
    for (const path of ["/", "/app.js", "/bandsync.js", "/css/tokens.css", "/asyncapi.json", "/metrics", "/metrics/prometheus"]) {
      const answers = await Promise.all(["identity", "gzip, deflate, br", "gzip;q=0, br"].map((encoding) => fetched(`${server.url}${path}`, encoding)));
      assert.deepEqual(answers.map((answer) => answer.headers["content-encoding"]), [undefined, "gzip", undefined], path);
      for (const answer of answers) {
        assert.equal(answer.status, 200, path);
        assert.match(answer.headers.vary, /Accept-Encoding/, path);
        assert.equal(Number(answer.headers["content-length"]), answer.body.length, path);
      }
      const [whole, packed] = answers;
      assert.ok(packed.body.length < whole.body.length / 1.5, `${path}: ${packed.body.length} of ${whole.body.length} bytes`);
      const unpacked = gunzipSync(packed.body).toString();
      if (!path.startsWith("/metrics")) assert.equal(unpacked, whole.body.toString(), path);
      assert.equal(unpacked.split("\n").length, whole.body.toString().split("\n").length, path);
    }
    const page = await fetched(`${server.url}/app.js`, "gzip");
    const again = await fetched(`${server.url}/app.js`, "gzip", { "If-None-Match": page.headers.etag });
    assert.deepEqual([again.status, again.body.length, again.headers["content-encoding"]], [304, 0, undefined]);
    assert.notEqual((await fetched(`${server.url}/app.js`, "identity")).headers.etag, page.headers.etag, "a compressed page has another ETag");
  });

  test("/metrics has the fields that dashboards of the Node.js server read", async () => {
    const answer = await request(server, "GET", "/metrics");
    assert.equal(answer.status, 200);
    const metrics = json(answer);
    assertShape(metrics.performance, {
      activeConnections: "number",
      messagesPerSecond: "number",
      avgLatency: "number",
      memoryUsage: "object",
      cpuUsage: "object",
      memoryBytes: "number",
      cpuPercent: "number",
    });
    const { memoryUsage, memoryBytes, cpuUsage } = metrics.performance;
    assertShape(memoryUsage, { heapUsed: "number", rss: "number" });
    assertShape(cpuUsage, { user: "number", system: "number" });
    for (const megabytes of Object.values(memoryUsage)) assert.equal(megabytes, Math.round(megabytes * 100) / 100, "two decimals");
    assert.ok(Math.abs(memoryUsage.rss - memoryBytes / 2 ** 20) < 0.006, answer.body);
    assert.ok(cpuUsage.user >= 0 && cpuUsage.user + cpuUsage.system < 60, answer.body);
    assertShape(metrics.connections, { current: "number", peak: "number", http: "number" });
    assert.ok("sessions" in metrics, answer.body);
  });

  test("/ is the page, and all files that it names exist", async () => {
    const page = await request(server, "GET", "/");
    assert.equal(page.status, 200);
    assert.match(page.headers["content-type"], /^text\/html/);
    const assets = [...page.body.matchAll(/(?:src|href)="(\/?[\w./-]+\.(?:js|css|svg|png|ico|webmanifest))"/g)];
    assert.ok(assets.length > 0, "the page has a script");
    for (const [, path] of assets) {
      const asset = await request(server, "GET", path.startsWith("/") ? path : `/${path}`);
      assert.equal(asset.status, 200, path);
      if (path.endsWith(".js")) assert.match(asset.headers["content-type"], /javascript/);
      if (path.endsWith(".css")) assert.match(asset.headers["content-type"], /^text\/css/);
    }
  });

  test("an unchanged asset is not sent again", async () => {
    const page = await request(server, "GET", "/");
    assert.ok(page.headers.etag, "the page has an ETag");
    const again = await request(server, "GET", "/", { "If-None-Match": page.headers.etag });
    assert.equal(again.status, 304);
    assert.equal(again.body, "");
  });
});

describe("the stage page", () => {
  /** Everything that a browser requests for the page, before it has joined. */
  const files = async () => {
    const page = (await request(server, "GET", "/")).body;
    return ["/", ...[...page.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path)];
  };

  // Specified, for the page before songs.
  const BYTES_MAX = 100_000;

  test("takes at most 11 requests and a connection, and few bytes", async () => {
    const paths = await files();
    assert.ok(paths.length <= 11, paths.join(" "));
    let bytes = 0;
    for (const path of paths) {
      const { status, headers, body } = await fetched(`${server.url}${path}`, "gzip");
      assert.equal(status, 200, path);
      bytes += body.length + JSON.stringify(headers).length;
    }
    assert.ok(bytes <= BYTES_MAX, `${bytes} bytes`);
  });

  test("names one script and one style, which never change", async () => {
    const paths = await files();
    const lasting = paths.filter((path) => /^\/stage\.[0-9a-f]{10}\.(js|css)$/.test(path));
    assert.deepEqual(lasting.map((path) => path.split(".").at(-1)).sort(), ["css", "js"]);
    for (const path of paths) {
      const { headers } = await request(server, "GET", path);
      const kept = lasting.includes(path) ? "public, max-age=31536000, immutable" : "no-cache";
      assert.equal(headers["cache-control"], kept, path);
      assert.ok(headers.etag, path);
    }
    assert.equal((await request(server, "GET", "/stage.0123456789.js")).status, 404, "an older version is gone");
  });

  test("is one script that is valid, and whose parts are served too", async () => {
    const script = (await files()).find((path) => /^\/stage\..*js$/.test(path));
    const { body } = await request(server, "GET", script);
    const run = spawnSync(process.execPath, ["--input-type=module", "--check"], { input: body, encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    const parts = [...body.matchAll(/^\/\/ ([\w./-]+\.js)$/gm)].map(([, path]) => `/${path}`);
    assert.ok(parts.includes("/app.js"), parts.join(" "));
    for (const path of parts) assert.equal((await request(server, "GET", path)).status, 200, path);
  });
});

/** Sends a request and returns the answer with its body still compressed, unlike `fetch`. */
function fetched(url, encoding, headers = {}) {
  return new Promise((done, fail) => {
    const asked = http.get(url, { headers: { "Accept-Encoding": encoding, ...headers } }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
    });
    asked.on("error", fail);
  });
}

describe("unknown paths and methods", () => {
  test("an unknown path is a 404", async () => {
    for (const path of ["/nowhere", "/socket.io", "/health/", "/../etc/passwd", "/%2e%2e/Cargo.toml", "//", "/index.html%00"]) {
      assert.equal((await request(server, "GET", path)).status, 404, path);
    }
  });

  test("another method is a 405 that names the allowed ones", async () => {
    for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
      const answer = await request(server, method, "/health", { "Content-Length": "2" }, "{}");
      assert.equal(answer.status, 405, method);
      assert.match(answer.headers.allow, /GET/);
      assert.match(answer.headers.allow, /HEAD/);
    }
  });
});

describe("connections", () => {
  test("HEAD is GET without the body", async () => {
    for (const path of ["/", "/health", "/nowhere"]) {
      const whole = await request(server, "GET", path);
      const bare = await request(server, "HEAD", path);
      assert.equal(bare.status, whole.status);
      assert.equal(bare.headers["content-type"], whole.headers["content-type"]);
      assert.equal(bare.body, "");
      assert.ok(Number(bare.headers["content-length"]) > 0, "the length is that of the omitted body");
    }
  });

  test("a connection serves several requests in turn", async () => {
    const connection = await tcp(server);
    for (let i = 0; i < 3; i += 1) {
      connection.write(head(server, "GET", "/health"));
      assert.equal((await connection.readAnswer()).status, 200);
    }
    connection.write(head(server, "HEAD", "/"));
    assert.equal((await connection.readAnswer({ head: true })).status, 200);
    connection.write(head(server, "GET", "/nowhere"));
    assert.equal((await connection.readAnswer()).status, 404);
  });

  test("requests that arrive in one piece are answered in order", async () => {
    const connection = await tcp(server);
    const paths = ["/health", "/nowhere", "/metrics", "/"];
    connection.write(paths.map((path) => head(server, "GET", path)).join(""));
    const statuses = [];
    for (const _ of paths) statuses.push((await connection.readAnswer()).status);
    assert.deepEqual(statuses, [200, 404, 200, 200]);
  });

  test("a request that arrives byte by byte is answered", async () => {
    const connection = await tcp(server);
    for (const byte of head(server, "GET", "/health")) {
      connection.write(byte);
      await new Promise(setImmediate);
    }
    assert.equal((await connection.readAnswer()).status, 200);
  });

  test("Connection: close closes the connection, and so does HTTP/1.0", async () => {
    const closing = await tcp(server);
    closing.write(head(server, "GET", "/health", { Connection: "close" }));
    assert.equal((await closing.readAnswer()).status, 200);
    await closing.closed();
    const old = await tcp(server);
    old.write("GET /health HTTP/1.0\r\n\r\n");
    assert.equal((await old.readAnswer()).status, 200);
    await old.closed();
  });
});

describe("malformed requests", () => {
  const broken = [
    ["noise", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"],
    ["no version", "GET /\r\n\r\n"],
    ["another protocol", "GET / SMTP/1.0\r\n\r\n"],
    ["a space in a header name", "GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n"],
    ["no host", "GET / HTTP/1.1\r\n\r\n"],
    ["two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
    ["an invalid length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"],
    ["length and chunks", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
  ];
  for (const [name, bytes] of broken) {
    test(`${name} is answered with 400, and closed`, async () => {
      const connection = await tcp(server);
      connection.write(Buffer.from(bytes, "latin1"));
      assert.equal((await connection.readAnswer()).status, 400);
      await connection.closed();
    });
  }

  test("a head above the limit is rejected and closed", async () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`X-${i}`, "y"]));
    for (const headers of [{ "X-Long": "x".repeat(100_000) }, many]) {
      const connection = await tcp(server);
      connection.write(head(server, "GET", "/", headers));
      const { status } = await connection.readAnswer();
      assert.ok([400, 431].includes(status), `${status}`);
      await connection.closed();
    }
    const endless = await tcp(server);
    endless.write(`GET /${"x".repeat(200_000)}`);
    const { status } = await endless.readAnswer();
    assert.ok([400, 414, 431].includes(status), `${status}`);
    await endless.closed();
  });
});

test("every answer carries the security headers", async () => {
  const answers = [
    await request(server, "GET", "/"),
    await request(server, "GET", "/health"),
    await request(server, "GET", "/metrics"),
    await request(server, "GET", "/nowhere"),
    await request(server, "POST", "/health", { "Content-Length": "0" }),
    await request(server, "GET", "/socket.io/?EIO=4&transport=polling"),
  ];
  const connection = await tcp(server);
  connection.write("nonsense\r\n\r\n");
  answers.push(await connection.readAnswer());
  for (const { first, headers } of answers) {
    assert.equal(headers["x-content-type-options"], "nosniff", first);
    assert.match(headers["content-security-policy"] ?? "", /default-src/, first);
    assert.ok(headers["referrer-policy"], `Referrer-Policy of ${first}`);
    assert.ok(
      headers["x-frame-options"] || /frame-ancestors/.test(headers["content-security-policy"]),
      `frame rule of ${first}`,
    );
    assert.equal(headers["x-powered-by"], undefined);
  }
});
