// Starts `tools examine`: small echo servers over the server's own transport.
import { spawn } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { binary } from "./server.js";
import { within } from "./wait.js";

/** The program `tools`: `TOOLS_BIN`, or the one beside the server under test. */
const tools = resolve(process.env.TOOLS_BIN ?? join(dirname(binary), "tools"));

/** Starts an application of `tools examine`, such as `ws-echo`, on a free port. */
export async function startExamine(application, ...options) {
  const child = spawn(tools, ["examine", application, "--port", "0", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  const output = { text: "" };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (output.text += text));
  }
  const killNow = () => child.kill("SIGKILL");
  process.once("exit", killNow);
  const exited = new Promise((done, fail) => {
    child.once("error", () => fail(new Error(`${tools} is missing: build it with cargo build -p bandsync-tools`)));
    child.once("close", () => done());
  });
  exited.catch(() => {});
  const port = new Promise((found) => {
    child.stdout.on("data", () => {
      const match = /listening on 127\.0\.0\.1:(\d+)/.exec(output.text);
      if (match) found(Number(match[1]));
    });
  });
  const ended = exited.then(() => Promise.reject(new Error(`examine ended: ${output.text}`)));
  ended.catch(() => {});
  const server = new Examined(child, exited, output);
  server.port = await within(15_000, Promise.race([port, ended]), () => `examine listens: ${output.text}`);
  server.url = `http://127.0.0.1:${server.port}`;
  return server;
}

class Examined {
  constructor(child, exited, output) {
    Object.assign(this, { child, exited, output, closers: [] });
  }

  /** Registers a function that runs when the server stops. */
  owns(close) {
    this.closers.push(close);
  }

  async stop() {
    for (const close of this.closers.splice(0)) close();
    this.child.kill("SIGTERM");
    await within(15_000, this.exited, "examine ends");
    if (/panicked/.test(this.output.text)) throw new Error(this.output.text);
  }
}
