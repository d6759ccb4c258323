// `bandsync health` and `bandsync licences`: programs for images that contain no other.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, test } from "node:test";
import { certificates } from "../support/certificates.js";
import { has } from "../support/deploy.js";
import { launch, startServer } from "../support/server.js";
import { PATIENCE_MS, within } from "../support/wait.js";

const NO_OPENSSL = !has("openssl", "version") && "openssl is not here: apt-get install openssl";

const run = (args, env = {}) => within(PATIENCE_MS, launch({ args, env }).exited, "the command ends");

describe("bandsync health", () => {
  let server, other, answer;
  before(async () => {
    server = await startServer({ env: { STORAGE: "memory" } });
    // Answers as a test wants it.
    other = http.createServer((_, response) => response.writeHead(answer.status).end(answer.body));
    await new Promise((done) => other.listen(0, "127.0.0.1", done));
  });
  after(async () => {
    other?.close();
    await server?.stop();
  });
  const elsewhere = () => `http://127.0.0.1:${other.address().port}`;

  test("asks the server at the port of the settings", async () => {
    for (const host of ["all", "127.0.0.1"]) {
      const { code, stdout, stderr } = await run(["health"], { PORT: String(server.port), HOST: host });
      assert.deepEqual([code, stdout, stderr], [0, `${server.url} is live\n`, ""]);
    }
  });

  test("asks the server that is named, also whether it is ready", async () => {
    const { code, stdout } = await run(["health", "--ready", `${server.url}/`]);
    assert.deepEqual([code, stdout], [0, `${server.url} is ready\n`]);
  });

  test("says no with one sentence, and why", async () => {
    for (const [args, status, body, said] of [
      [[], 503, '{"live":false}', "is not live, a shard hangs: restart the server"],
      [["--ready"], 503, '{"ready":false,"reasons":["draining","memory"]}', "is not ready: draining, memory"],
      [[], 200, "<p>welcome", "answers 200: is it a BandSync server?"],
      [[], 404, "", "answers 404: is it a BandSync server?"],
    ]) {
      answer = { status, body };
      const { code, stdout, stderr } = await run(["health", ...args, elsewhere()]);
      assert.deepEqual([code, stdout, stderr], [1, "", `bandsync: ${elsewhere()} ${said}\n`]);
    }
  });

  test("a server with TLS is asked over TLS, whatever names its certificate has", { skip: NO_OPENSSL }, async (t) => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-health-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const { cert, key } = certificates(folder, ["band.example.org"]);
    const tls = { TLS_CERT: cert, TLS_KEY: key };
    const secure = await startServer({ env: { STORAGE: "memory", ...tls } });
    t.after(() => secure.stop());
    const { code, stdout, stderr } = await run(["health"], { PORT: String(secure.port), ...tls });
    assert.deepEqual([code, stdout, stderr], [0, `https://127.0.0.1:${secure.port} is live\n`, ""]);
    const named = await run(["health", `https://127.0.0.1:${secure.port}`]);
    assert.equal(named.code, 1, "a server that is named must have a certificate that is trusted");
    assert.match(named.stderr, /does not answer: .*certificate/);
  });

  test("a server that is gone is not live", async () => {
    const gone = await startServer({ env: { STORAGE: "memory" } });
    await gone.stop();
    const { code, stderr } = await run(["health"], { PORT: String(gone.port) });
    assert.equal(code, 1);
    assert.match(stderr, /^bandsync: http:\/\/127\.0\.0\.1:\d+ does not answer: Connection refused/);
  });

  test("any free port has to be named", async () => {
    const { code, stderr } = await run(["health"], { PORT: "0" });
    assert.equal(code, 1);
    assert.match(stderr, /name its address/);
  });
});

test("bandsync licences prints the notices of all packages, and their licences", async () => {
  const { code, stdout } = await run(["licences"]);
  assert.equal(code, 0);
  for (const name of ["rustls", "redis", "mio", "libmimalloc-sys", "ring"]) {
    assert.match(stdout, new RegExp(`^${name} \\d\\S* \\([A-Z].*\\): text \\d`, "m"));
  }
  const numbers = [...stdout.matchAll(/^\S+ \d\S* \(.*\): text ([\d, ]+)$/gm)].flatMap(([, list]) => list.split(", "));
  const texts = [...stdout.matchAll(/^---- text (\d+) ----$/gm)].map(([, number]) => number);
  assert.deepEqual([...new Set(numbers)].sort(), [...texts].sort(), "each text is used, and each number has a text");
  assert.match(stdout, /Permission is hereby granted, free of charge/);
});
