// Starts the real binary on a free port, collects its output, and stops it as an operator would.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { leashed } from "./leash.js";
import { target } from "./paths.js";
import { SLOWER, within } from "./wait.js";

/** The binary under test: `BANDSYNC_BIN`, or the one that `cargo build` makes. */
export const binary = resolve(process.env.BANDSYNC_BIN ?? target("debug", "bandsync"));

const START_MS = 15_000 * SLOWER;
const STOP_MS = 15_000 * SLOWER;

/**
 * Starts the binary without waiting for it to listen, for runs that end by themselves.
 *
 * The process has an empty working directory, so that it reads no `.env` by chance, and only the
 * environment given here. `stderr` is a file descriptor for its log; by default the log is
 * collected. `under` is a command with arguments that must `exec` the binary.
 */
export function launch({ env = {}, args = [], cwd, stderr = "pipe", under = [] } = {}) {
  const directory = cwd ?? mkdtempSync(join(tmpdir(), "bandsync-test-"));
  const [command, ...rest] = [...under, binary, ...args];
  const child = spawn(...leashed(command, rest), {
    cwd: directory,
    env: { PATH: process.env.PATH, HOME: directory, RUST_BACKTRACE: "1", ...env },
    stdio: ["ignore", "pipe", stderr],
  });
  const run = { child, directory, stdout: "", stderr: "", exited: null };
  for (const stream of ["stdout", "stderr"]) {
    child[stream]?.setEncoding("utf8").on("data", (text) => (run[stream] += text));
  }
  run.exited = new Promise((done, fail) => {
    child.once("error", fail);
    // `close`, unlike `exit`, comes after the last byte of both streams.
    child.once("close", (code, signal) => {
      process.off("exit", killNow);
      if (cwd === undefined) rmSync(directory, { recursive: true, force: true });
      done({ code, signal, stdout: run.stdout, stderr: run.stderr });
    });
  });
  run.exited.catch(() => {});
  // The server must not outlive the test process.
  const killNow = () => child.kill("SIGKILL");
  process.once("exit", killNow);
  return run;
}

/**
 * Starts a server and waits for the line that names its address.
 *
 * `PORT=0` lets the kernel choose, so that any number of test files can run side by side.
 */
export async function startServer({ env = {}, args = [], cwd, stderr, under } = {}) {
  const run = launch({
    env: { PORT: "0", HOST: "127.0.0.1", SHARDS: "2", LOG_LEVEL: "info", ...env },
    args,
    cwd,
    stderr,
    under,
  });
  const address = new Promise((found, fail) => {
    const look = () => {
      const match = /(https?):\/\/127\.0\.0\.1:(\d+)\//.exec(run.stdout);
      if (match) found({ scheme: match[1], port: Number(match[2]) });
    };
    run.child.stdout.on("data", look);
    run.exited.then(
      ({ code }) => fail(new Error(`the server ended with ${code} before it listened\n${logs(run)}`)),
      (error) => fail(new Error(`cannot start ${binary}: ${error.message}; build it first: cargo build`)),
    );
  });
  let listening;
  try {
    listening = await within(START_MS, address, () => `the server names its address\n${logs(run)}`);
  } catch (error) {
    run.child.kill("SIGKILL");
    throw error;
  }
  return new Server(run, listening);
}

function logs(run) {
  return `--- stdout\n${run.stdout}\n--- stderr\n${run.stderr}`;
}

class Server {
  constructor(run, { scheme, port }) {
    this.run = run;
    this.port = port;
    this.url = `${scheme}://127.0.0.1:${port}`;
    this.pid = run.child.pid;
    this.exited = run.exited;
    this.closers = [];
  }

  get logs() {
    return logs(this.run);
  }

  /** Registers a function that runs when the server stops, such as one that closes a client. */
  owns(close) {
    this.closers.push(close);
  }

  signal(name) {
    this.run.child.kill(name);
  }

  /** Kills the server, then closes its clients, so that the server does not store their leaving. */
  async crash() {
    this.signal("SIGKILL");
    await this.exited;
    for (const close of this.closers.splice(0)) close();
  }

  /** Closes the clients, stops the server and returns its exit. Throws if that is not clean. */
  async stop() {
    for (const close of this.closers.splice(0)) close();
    this.signal("SIGTERM");
    try {
      const end = await within(STOP_MS, this.exited, () => `the server exits after SIGTERM\n${this.logs}`);
      const panicked = /panicked at/.test(end.stderr + end.stdout);
      if (end.code !== 0 || panicked) {
        throw new Error(`the server ended with code ${end.code}, signal ${end.signal}\n${this.logs}`);
      }
      return end;
    } finally {
      this.run.child.kill("SIGKILL");
    }
  }
}

/** Resident memory of a process in bytes, as the kernel counts it. */
export function residentBytes(pid) {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match[1]) * 1024;
}
