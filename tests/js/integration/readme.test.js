// The commands in the code blocks of the README files. Each one is run here, by another test, or
// its README shows the output of a run. This file fails if a README has a command that its table
// lacks.
//
// A command is run as a reader would paste it, in bash. Only times and placeholders are replaced,
// and `cargo run` starts the program that is already built.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join as path, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { band, emit } from "../support/client.js";
import { TOP } from "../support/paths.js";
import { binary, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { request } from "../support/wire.js";

const READMES = ["README.md", "perf/README.md", "shards/README.md", "src/README.md", "tests/README.md", "tools/README.md", "tools/deploy/README.md"];
const tools = resolve(process.env.TOOLS_BIN ?? path(dirname(binary), "tools"));
const has = (program) => spawnSync(program, ["--version"]).error === undefined;
const read = (name) => readFileSync(path(TOP, name), "utf8");

/** A text whose line ends and spaces are single spaces: prose may break anywhere. */
const oneLine = (text) => text.replace(/\s+/g, " ");

/**
 * The blocks of code in a Markdown text, as `{language, lines}`. Indented ones have no language.
 */
function blocks(text) {
  const found = [];
  let fence = null;
  let isIndented = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("```")) {
      fence = fence === null ? { language: line.slice(3), lines: [] } : null;
      if (fence !== null) found.push(fence);
      isIndented = false;
    } else if (fence !== null) {
      fence.lines.push(line);
    } else if (line.startsWith("    ")) {
      if (!isIndented) found.push({ language: "", lines: [] });
      found.at(-1).lines.push(line.slice(4));
      isIndented = true;
    } else {
      isIndented = false;
    }
  }
  return found;
}

const COMMAND = /^(?:sudo |[A-Z_]+=\S+ )*(?:\.\/|target\/|bandsync |cargo |cd |chrt |curl |install |nice |node |npm |systemctl |taskset )/;

/** The commands in the blocks of a text, without comments. A `\` at the end joins two lines. */
function commands(text) {
  const plain = blocks(text).filter(({ language }) => language === "");
  const lines = plain.flatMap(({ lines }) => lines.join("\n").replace(/\\\n\s*/g, "").split("\n"));
  return lines.map((line) => line.replace(/\s+#\s.*$/, "").trim()).filter((line) => COMMAND.test(line));
}

/**
 * Marks a command that this file runs, with `replace` applied. `fails` is a text of the error with
 * exit code 1.
 */
const here = (options = {}) => ({ ...options, isHere: true });
/** Marks a command that another test or a step of `tools/test` runs. */
const by = (file) => ({ file });
/** Marks a command whose output a README shows; `text` is part of it. */
const shown = (file, text) => ({ file, text });

const SHARD = ["FILES-OF-ONE-SHARD", "recording/*"];
const RECORDING = ["DIR", "recording"];
// Takes root, debootstrap and half an hour, so only its options are checked, by a `--help` after them.
const FRESH = here({ folder: ".", replace: [["sudo ", ""], [/( -- .*)?$/, " --help$1"]], prints: /^Usage: sudo/ });
const BY_SYSTEMD = shown("tools/deploy/README.md", "Active: active (running)");
const OVERHEAD = shown("perf/README.md", "| 125 sessions × 8, all ticks | 45.3 % |");
const BESIDE = shown("perf/README.md", "ticks were late by 0.6 and 1.1 ms at p99");

const COMMANDS = {
  "cargo run --release": shown("src/README.md", "open     http://127.0.0.1:3001/"),
  "cargo build": by("tools/test"),
  "cargo test": by("tools/test"),
  "cargo test -p bandsync-engine leadership": by("tools/test"),
  "cd tests/js && npm ci": by("tools/needs"),
  "./tools/test": by("tools/tests/entry.rs"),
  "./tools/test --fast": by("tools/tests/entry.rs"),
  "./tools/test --only integration": by("tools/tests/entry.rs"),
  "./tools/test --only yardstick": by("tools/tests/entry.rs"),
  "sudo ./tools/fresh bookworm": FRESH,
  "sudo ./tools/fresh trixie --user": FRESH,
  "sudo ./tools/fresh trixie --sudo": FRESH,
  "sudo ./tools/fresh bookworm --user --with npm -- --only unit": FRESH,

  "node --test integration/wire.test.js": by("tools/test"),
  "cargo build --release": by("tools/test"),
  "cd tests/js && BANDSYNC_BIN=../../target/release/bandsync node figures.js": shown("tests/README.md", "<!-- the output of node figures.js -->"),
  "node --test --test-name-pattern='second one closes' integration/wire.test.js": here({ folder: "tests/js" }),
  "TICKS_SECONDS=60 node --test integration/ticks.test.js": here({ folder: "tests/js", replace: [["=60", "=1"]] }),
  "BANDSYNC_BIN=../../target/release/bandsync node --test integration/": by("tools/test"),

  "cargo run --release -p bandsync-tools -- size --members 1000000 --nodes 4 --ticking 0.1": here({ prints: /^reached first: .* at \d+ members/m }),
  "node tests/js/unit/drawn.js --seed 1 --answers 10000000 | cargo run --release -p bandsync-tools -- timelines": here({ folder: ".", replace: [["10000000", "100000"]], prints: /^1\d{5} answers agree$/m }),

  "node tests/js/unit/make-charts.js --json | cargo run --release -p bandsync-tools -- charts": here({ folder: ".", prints: /^\d{3} songs agree$/m }),

  "cargo run --release -p bandsync-tools -- examine ws-echo --port 9001": here({ listens: true, replace: [["9001", "0"]] }),
  "cargo run --release -p bandsync-tools -- examine engine-echo --ping-interval 300 --ping-timeout 200": here({ listens: true, replace: [["--ping-interval", "--port 0 --ping-interval"]] }),
  "cargo run --release -p bandsync-tools -- examine socket-echo --recovery 120000": here({ listens: true, replace: [["--recovery", "--port 0 --recovery"]] }),
  "cargo run --release -p bandsync-tools -- examine client-tests --port 3210 --ping-interval 2000 --recovery 120000": here({ listens: true, replace: [["3210", "0"]] }),

  "bandsync replay DIR": here({ replace: [RECORDING] }),
  "bandsync replay --realtime --until 90 DIR": here({ replace: [RECORDING] }),
  "bandsync trace show --session demo --event play DIR": here({ replace: [RECORDING], prints: /"?play"?/ }),
  "bandsync trace show --json --member Ada DIR | jq .content": here({ replace: [RECORDING], pipe: "jq" }),
  "bandsync trace stats DIR": here({ replace: [RECORDING] }),
  "bandsync trace diff ONE OTHER": here({ replace: [["ONE OTHER", "recording recording"]] }),
  "bandsync trace cut --session demo --until 60 --out demo.trace FILES-OF-ONE-SHARD": here({ replace: [SHARD] }),
  "bandsync trace shrink --check panic --out small.trace FILES-OF-ONE-SHARD": here({ replace: [SHARD], fails: /passes this check/ }),
  "bandsync trace shrink --check digest --against ./bandsync-old --out small.trace FILES-OF-ONE-SHARD": here({ replace: [SHARD], fails: /passes this check/ }),
  "bandsync trace shrink --check '\"code\":\"internal\"' --out small.trace FILES-OF-ONE-SHARD": here({ replace: [SHARD], fails: /passes this check/ }),

  "./tools/flamegraph": by("tools/tests/flamegraph.rs"),
  "./tools/flamegraph TRACE…": by("tools/tests/flamegraph.rs"),
  "./tools/flamegraph --load": by("tools/tests/flamegraph.rs"),

  "./tools/fuzz-all 60": here({ folder: ".", replace: [["60", "0"]] }),
  "cargo run -p bandsync-tools -- fuzz --seconds 30 --target frames --seed 7": here({ folder: ".", replace: [["30", "1"]] }),

  "cargo run --release -p bandsync-tools -- simulate --seed 7": here({ prints: / 0 failed/ }),
  "cargo run --release -p bandsync-tools -- simulate --seed 7 --hours 2": here({ replace: [["2", "0.01"]], prints: / 0 failed/ }),
  "cargo run --release -p bandsync-tools -- simulate --seconds 60 --new-seeds": here({ replace: [["60", "1"]], prints: / 0 failed/ }),
  "cargo run --release -p bandsync-tools -- simulate --seed 7 --story": here({ prints: / does / }),
  "cargo run --release -p bandsync-tools -- simulate --seed 7 --shrink p.json": here({ prints: /breaks no invariant/ }),
  "cargo run --release -p bandsync-tools -- simulate --plan p.json": here(),
  // Builds a copy of the tree and takes minutes, so only its options are checked.
  "cargo run --release -p bandsync-tools -- simulate --planted": here({ replace: [["--planted", "--planted --help"]], prints: /--planted/ }),
  "cargo run --release -p bandsync-tools -- simulate --count 2000 --seen": here({ replace: [["2000", "5"]], prints: / 0 failed/ }),

  "./perf/compare --rounds 5 --seconds 3 --everything --picture perf/pictures/compare.svg -- --warm-up 1": shown("perf/README.md", "<!-- the output of ./perf/compare --everything -->"),
  "./perf/compare --goals": shown("perf/README.md", "<!-- the output of ./perf/compare --goals -->"),
  "target/release/perf growth --seconds 3 --pictures perf/pictures": shown("perf/README.md", "<!-- the table of growth --only timeline -->"),
  "BANDSYNC_BIN=target/release/bandsync node perf/positions.js 60": shown("perf/README.md", "<!-- the output of BANDSYNC_BIN=target/release/bandsync node perf/positions.js 60 -->"),
  "cargo build --release -p bandsync -p bandsync-perf --bins": by("tools/test"),
  "chrt -f 5 target/release/perf overhead --seconds 10": OVERHEAD,
  'chrt -f 5 target/release/perf overhead --seconds 8 --load "target/release/perf load --scenario gig --sessions 60"': OVERHEAD,
  'chrt -f 5 target/release/perf overhead --seconds 8 --load "target/release/perf load --scenario chat --sessions 60"': OVERHEAD,
  "taskset -c 0 timeout 60 sh -c 'while :; do :; done' &": BESIDE,
  'nice -n -10 target/release/perf load --sessions 50 --seconds 5 --spawn "target/release/bandsync --host 127.0.0.1 --port PORT --shards 1 --scroll-tick-interval 16 --storage memory"': BESIDE,
  "cargo run --release -p bandsync-perf -- recording --side-by-side --sessions 60 --rounds 100 --seconds 2": shown("perf/README.md", "| 2 × 60 sessions × 8, all ticks, 100 rounds |"),
  "target/release/perf clock": shown("perf/README.md", "<!-- the output of target/release/perf clock, of the runs that count -->"),
  "target/release/perf compare --capacity --seconds 2 --without node,socketioxide -- --warm-up 1": shown("perf/README.md", "members that a core carries"),

  "cargo build --release -p bandsync": by("tools/test"),
  "sudo install target/release/bandsync /usr/local/bin/": BY_SYSTEMD,
  "sudo install -m 644 tools/deploy/bandsync.service /etc/systemd/system/": BY_SYSTEMD,
  "sudo systemctl daemon-reload": BY_SYSTEMD,
  "sudo systemctl enable --now bandsync": BY_SYSTEMD,
  "systemctl status bandsync": BY_SYSTEMD,
  "curl http://127.0.0.1:3001/readyz": by("tests/js/integration/readme.test.js"),
};

let scratch;
let server;

/** A recording of one shard, with a session `demo` and a member Ada. */
async function record(directory) {
  const recorded = await startServer({ env: { SHARDS: "1", STORAGE: "memory", RECORD_DIR: directory } });
  const { leader } = await band(recorded, 2, "demo");
  assertDone(await emit(leader, "play", { sessionId: "demo" }));
  await recorded.stop();
}

before(async () => {
  scratch = mkdtempSync(path(tmpdir(), "bandsync-readme-"));
  server = await startServer({ env: { STORAGE: "memory" } });
  await record(path(scratch, "recording"));
  symlinkSync(binary, path(scratch, "bandsync-old"));
  symlinkSync(path(TOP, "tests/js/node_modules"), path(scratch, "node_modules"));
  copyFileSync(path(TOP, "tests/traces/clock-samples-that-came-back.json"), path(scratch, "p.json"));
  // The README files call programs by name, and by `cargo run`.
  mkdirSync(path(scratch, "bin"));
  symlinkSync(binary, path(scratch, "bin/bandsync"));
  symlinkSync(process.execPath, path(scratch, "bin/node"));
  const cargo = `#!/bin/sh\ncase "$*" in "run "*"-p bandsync-tools "*) ;; *) exit 97 ;; esac\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec '${tools}' "$@"\n`;
  writeFileSync(path(scratch, "bin/cargo"), cargo, { mode: 0o755 });
});
after(async () => {
  await server.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Starts a command in bash, which becomes the program if the command is a single one. */
function start(command, folder = scratch) {
  const { NODE_TEST_CONTEXT, ...env } = process.env;
  const options = { cwd: folder, env: { ...env, PATH: `${scratch}/bin:${env.PATH}`, BANDSYNC_BIN: binary, TOOLS_BIN: tools } };
  const child = spawn("bash", ["-c", command], { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const run = { child, text: "" };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (run.text += text));
  run.exited = new Promise((done) => child.once("close", done));
  server.owns(() => child.kill("SIGKILL"));
  return run;
}

/** Waits until a running command has printed something like `text`, then ends it. */
async function prints(run, text) {
  const received = new Promise((done) => {
    const look = () => text.test(run.text) && done();
    run.child.stdout.on("data", look);
  });
  await within(PATIENCE_MS, Promise.race([received, run.exited]), () => `${text} is printed; so far: ${run.text}`);
  run.child.kill("SIGTERM");
  await within(PATIENCE_MS, run.exited, "the command ends");
  assert.match(run.text, text);
}

test("each command of a README is run by a test, shown with its output, or explained", () => {
  const found = READMES.flatMap((name) => commands(read(name)).map((command) => [name, command]));
  for (const [name, command] of found) assert.ok(Object.hasOwn(COMMANDS, command), `${name}: how is \`${command}\` tested?`);
  const all = new Set(found.map(([, command]) => command));
  for (const command of Object.keys(COMMANDS)) assert.ok(all.has(command), `no README has \`${command}\``);
  for (const { file, text } of Object.values(COMMANDS)) {
    if (text !== undefined) assert.ok(oneLine(read(file)).includes(oneLine(text)), `${text} is not in ${file}`);
    else if (file !== undefined) assert.ok(existsSync(path(TOP, file)), `${file} does not exist`);
  }
});

describe("a README's command", () => {
  for (const [command, { isHere, listens, replace = [], folder, pipe, fails, prints: text }] of Object.entries(COMMANDS)) {
    if (!isHere) continue;
    test(command, { timeout: 120_000 }, async () => {
      const shortened = replace.reduce((so, [from, to]) => so.replace(from, to), command);
      // Without the program after the pipe, only the part before it is run.
      const [first] = shortened.split(" | ");
      const run = start(pipe && !has(pipe) ? first : shortened, folder && path(TOP, folder));
      if (listens) return prints(run, /listening on 127\.0\.0\.1:\d+/);
      assert.equal(await run.exited, fails ? 1 : 0, run.text);
      if (fails ?? text) assert.match(run.text, fails ?? text);
    });
  }
});

test("the program in the root README prints positions", async () => {
  const [program] = blocks(read("README.md")).filter(({ language }) => language === "js");
  const text = program.lines.join("\n");
  assert.match(text, /node band\.mjs/);
  writeFileSync(path(scratch, "band.mjs"), text.replace("http://127.0.0.1:3001", server.url));
  await prints(start("node band.mjs"), /1 members, 120 BPM[^]*the band is at \d+/);
});

test("the probe in tools/deploy/README.md answers as shown", async () => {
  const [, url, answer] = /^ {4}curl http:\/\/127\.0\.0\.1:3001(\S+) +# (.+)$/m.exec(read("tools/deploy/README.md"));
  if (!has("curl")) return assert.equal((await request(server, "GET", url)).body, answer);
  const run = start(`curl --silent ${server.url}${url}`);
  assert.equal(await run.exited, 0, run.text);
  assert.equal(run.text.trim(), answer);
});
