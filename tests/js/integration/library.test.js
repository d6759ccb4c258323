// The library as others use it: packed for npm, imported from another origin, and small.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { minify } from "terser";
import { band, emit } from "../support/client.js";
import { TOP, target } from "../support/paths.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { request } from "../support/wire.js";

const web = (name) => join(TOP, "src/web", name);
const PACKAGE = JSON.parse(readFileSync(web("package.json"), "utf8"));
const SCRIPTS = PACKAGE.files.filter((name) => name.endsWith(".js"));
/** The Python that has python-socketio, installed by tools/test. */
const PYTHON = target("python-socketio", "bin/python");

/** The blocks of code in the library's README, by language. */
function examples(language) {
  const text = readFileSync(web("README.md"), "utf8");
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].filter((found) => found[1] === language).map((found) => found[2]);
}

let scratch;
let server;
before(async () => {
  scratch = mkdtempSync(join(tmpdir(), "bandsync-library-"));
  server = await startServer({ env: { STORAGE: "memory" } });
});
after(async () => {
  await server.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Runs a program until it has printed something like `wanted`. Returns all that it has printed. */
async function printed(program, args, env, wanted) {
  const child = spawn(program, args, { cwd: scratch, env, stdio: ["ignore", "pipe", "pipe"] });
  server.owns(() => child.kill("SIGKILL"));
  let text = "";
  const found = new Promise((done) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (more) => {
        text += more;
        if (wanted.test(text)) done();
      });
    }
  });
  const ended = new Promise((done) => child.once("close", done));
  await within(PATIENCE_MS, Promise.race([found, ended]), () => `${wanted} is printed; so far: ${text}`);
  child.kill();
  await ended;
  assert.match(text, wanted);
  return text;
}

test("the package has all files that its own files import, and no dependencies", () => {
  assert.deepEqual(Object.keys(PACKAGE).filter((key) => /dependencies|scripts/i.test(key)), []);
  for (const name of PACKAGE.files) {
    assert.ok(existsSync(web(name)), name);
    for (const [, imported] of readFileSync(web(name), "utf8").matchAll(/ from "([^"]+)";$/gm)) {
      if (name.endsWith(".d.ts") && imported === "socket.io-client") continue;
      assert.ok(PACKAGE.files.includes(imported.replace("./", "")), `${name} imports ${imported}`);
    }
  }
  const named = Object.values(PACKAGE.exports).flatMap((one) => Object.values(one));
  for (const path of named) assert.ok(PACKAGE.files.includes(path.replace("./", "")), path);
  const cargo = /^version = "(.+)"$/m.exec(readFileSync(join(TOP, "Cargo.toml"), "utf8"))[1];
  assert.equal(PACKAGE.version, cargo);
});

test("the program of the library's README runs with the packed library, in Node.js without options", async () => {
  const packed = spawnSync("npm", ["pack", "--json", "--pack-destination", scratch], { cwd: web("."), encoding: "utf8" });
  assert.equal(packed.status, 0, packed.stderr);
  const [{ filename, files }] = JSON.parse(packed.stdout);
  assert.deepEqual(files.map((file) => file.path).sort(), [...PACKAGE.files, "README.md", "package.json"].sort());
  assert.equal(spawnSync("tar", ["xzf", filename], { cwd: scratch }).status, 0);
  mkdirSync(join(scratch, "node_modules"));
  cpSync(join(scratch, "package"), join(scratch, "node_modules/bandsync"), { recursive: true });

  const [program] = examples("js");
  writeFileSync(join(scratch, "member.mjs"), program.replace("http://127.0.0.1:3001", server.url));
  const { NODE_OPTIONS: _, ...env } = process.env;
  const text = await printed(process.execPath, ["member.mjs"], env, /bar 0 beat [1-4] members 1\n[^]*bar 1 beat 1 members 1\n/);
  assert.doesNotMatch(text, /warning/i);
});

const withoutPython = !existsSync(PYTHON) && "python-socketio is not here: ./tools/test --only integration installs it";
test("the program of the library's README follows the band with the unmodified python-socketio", { skip: withoutPython }, async () => {
  const { leader } = await band(server, 1, "python");
  assertDone(await emit(leader, "play", { sessionId: "python" }));
  const [program] = examples("py");
  writeFileSync(join(scratch, "follower.py"), program.replace("http://127.0.0.1:3001", server.url).replace("rehearsal", "python"));
  const env = { ...process.env, PYTHONUNBUFFERED: "1" };
  await printed(PYTHON, ["follower.py"], env, /joined as follower\n[^]*the band is at \d+/);
});

test("pages of another origin may import the library and its types, and nothing else", async () => {
  const Origin = "https://band.example";
  for (const name of PACKAGE.files) {
    const answer = await request(server, "GET", `/${name}`, { Origin });
    assert.equal(answer.status, 200, name);
    assert.equal(answer.headers["access-control-allow-origin"], "*", name);
    assert.equal(answer.body, readFileSync(web(name), "utf8"), name);
  }
  for (const path of ["/", "/app.js", "/health", "/asyncapi.json"]) {
    const answer = await request(server, "GET", path, { Origin });
    assert.equal(answer.headers["access-control-allow-origin"], undefined, path);
  }
});

test("the library has at most 12 kB, minified and compressed", async () => {
  const sources = SCRIPTS.map((name) => minify(readFileSync(web(name), "utf8"), { module: true }));
  const short = (await Promise.all(sources)).map(({ code }) => code).join("");
  const { length } = gzipSync(short, { level: 9 });
  assert.ok(length <= 12_000, `${length} bytes`);
});
