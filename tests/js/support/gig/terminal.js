// The terminal of a server: its text, and the QR code in it.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import jsQR from "jsqr";
import { leashed } from "../leash.js";
import { binary } from "../server.js";
import { PATIENCE_MS, deferred, within } from "../wait.js";

/** Starts a server on a terminal, reads what it prints until `isWhole(text)`, and runs `use(text)` while it runs. */
export async function onTerminal(env, isWhole, use) {
  const cwd = mkdtempSync(join(tmpdir(), "bandsync-terminal-"));
  // `script` has a terminal for its program; its exit ends the program.
  const child = spawn(...leashed("script", ["-qefc", `exec ${binary}`, "/dev/null"]), {
    cwd,
    env: { PATH: process.env.PATH, HOME: cwd, TERM: "xterm", PORT: "0", SHARDS: "1", STORAGE: "memory", ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let text = "";
  const whole = deferred();
  child.stdout.setEncoding("utf8").on("data", (more) => {
    text += more;
    if (isWhole(text)) whole.resolve();
  });
  const gone = new Promise((done) => child.once("close", done));
  const server = () => readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
  try {
    child.once("error", whole.reject);
    await within(PATIENCE_MS, whole.promise, () => `the server prints its text; so far: ${text}`);
    return await use(text);
  } finally {
    for (const pid of child.exitCode === null ? server() : []) process.kill(pid, "SIGTERM");
    await gone;
    rmSync(cwd, { recursive: true, force: true });
  }
}

/** Reads the code that a terminal shows in half blocks, light on dark. Null without one. */
export function codeOf(text) {
  const rows = text.split(/\r?\n/).filter((line) => /^[ ▀▄█]{20,}$/.test(line));
  if (rows.length === 0) return null;
  const width = Math.max(...rows.map((row) => row.length));
  const scale = 4;
  const [w, h] = [width * scale, rows.length * 2 * scale];
  const pixels = new Uint8ClampedArray(4 * w * h).fill(255);
  for (let y = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) {
      const module = Math.floor(y / scale);
      const char = rows[module >> 1][Math.floor(x / scale)] ?? " ";
      const isLight = char === "█" || char === (module % 2 ? "▄" : "▀");
      if (!isLight) pixels.fill(0, 4 * (y * w + x), 4 * (y * w + x) + 3);
    }
  }
  return (jsQR.default ?? jsQR)(pixels, w, h)?.data ?? null;
}
