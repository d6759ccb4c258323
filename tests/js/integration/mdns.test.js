// `bandsync.local` in the local network: in a network of its own, which a test needs no rights for.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { startServer } from "../support/server.js";
import { cannot } from "../support/skips.js";

const OURS = "192.168.77.1";
const SETUP = [
  "ip link set lo up",
  "(ip link add stage0 type dummy || ip link add stage0 type veth peer name stage1)",
  "(ip link set stage1 up || true)",
  `ip addr add ${OURS}/24 dev stage0`,
  "ip link set stage0 up multicast on",
  "echo ready",
  "exec sleep 600",
].join(" && ");

/** A process that holds a network without members; `null` if this machine does not allow it. */
async function network() {
  const holder = spawn("unshare", ["--map-root-user", "--net", "sh", "-c", SETUP], { stdio: ["ignore", "pipe", "ignore"] });
  const lines = await new Promise((done) => {
    holder.stdout.setEncoding("utf8").once("data", done);
    holder.once("error", () => done(""));
    holder.once("close", () => done(""));
  });
  return lines.startsWith("ready") ? holder : null;
}

async function until(what, holds) {
  for (let i = 0; i < 200; i += 1) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`not within 10 s: ${what}`);
}

let holder;
before(async () => (holder = await network()));
after(() => holder?.kill());

const inside = () => ["nsenter", "--preserve-credentials", "--user", "--net", "--target", String(holder.pid)];
const env = (more = {}) => ({ HOST: "all", SHARDS: "1", ...more });

/** Program that asks for the addresses of a name, from port `PORT`, and prints those of the first answer. */
const ASK = `
const socket = require("node:dgram").createSocket({ type: "udp4", reuseAddr: true });
const [name, port] = process.argv.slice(1);
const labels = name.split(".").map((label) => String.fromCharCode(label.length) + label).join("");
const query = Buffer.concat([Buffer.from([0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Buffer.from(labels, "latin1"), Buffer.from([0, 0, 1, 0, 1])]);
socket.on("message", (bytes, from) => {
  const text = bytes.toString("latin1").toLowerCase();
  const own = labels.toLowerCase();
  if ((bytes[2] & 0x80) === 0 || !text.includes(own)) return;
  // After the last name of the answer: type, class, time, and the length of an address.
  const at = text.indexOf("\\0\\x04", text.indexOf(own, 12 + (bytes[5] ? own.length : 0)) + own.length + 8);
  console.log(JSON.stringify({ address: [...bytes.subarray(at + 2, at + 6)].join("."), id: bytes[1], questions: bytes[5], port: from.port }));
  process.exit(0);
});
socket.bind(Number(port), () => {
  if (Number(port) === 5353) socket.addMembership("224.0.0.251", "${OURS}");
  socket.setMulticastInterface("${OURS}");
  const ask = () => socket.send(query, 5353, "224.0.0.251");
  ask();
  setInterval(ask, 1100);
  setTimeout(() => process.exit(1), 4000);
});
`;

/** Program that has the name `bandsync.local` for another address, and says so when somebody asks. */
const TAKEN = `
const socket = require("node:dgram").createSocket({ type: "udp4", reuseAddr: true });
const name = Buffer.from("\\x08bandsync\\x05local\\0", "latin1");
const answer = Buffer.concat([Buffer.from([0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0]), name, Buffer.from([0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4, 192, 168, 77, 9])]);
socket.on("message", (bytes) => {
  if ((bytes[2] & 0x80) === 0 && bytes.includes(name)) socket.send(answer, 5353, "224.0.0.251");
});
socket.bind(5353, () => {
  socket.addMembership("224.0.0.251", "${OURS}");
  socket.setMulticastInterface("${OURS}");
  console.log("ready");
});
`;

function ask(name, port) {
  const [command, ...args] = [...inside(), process.execPath, "-e", ASK, name, String(port)];
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? JSON.parse(stdout) : null;
}

describe("the name in the local network", () => {
  test("is printed and answers, to those that listen and to programs that do not", async (t) => {
    if (!holder) return cannot(t, "no network of its own");
    const server = await startServer({ env: env(), under: inside() });
    assert.match(server.run.stdout, new RegExp(`^ +http://bandsync\\.local:${server.port}/$`, "m"));
    const listener = ask("bandsync.local", 5353);
    assert.deepEqual([listener?.address, listener?.port, listener?.questions], [OURS, 5353, 0]);
    const plain = ask("BandSync.Local", 0);
    assert.deepEqual([plain?.address, plain?.id, plain?.questions], [OURS, 7, 1]);
    assert.equal(ask("bandsync-2.local", 5353), null);
    await server.stop();
    assert.equal(ask("bandsync.local", 5353), null, "the name ends with the server");
  });

  test("gets a number if another machine has it, and the pages answer under it", async (t) => {
    if (!holder) return cannot(t, "no network of its own");
    const [command, ...args] = [...inside(), process.execPath, "-e", TAKEN];
    const other = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((done) => other.stdout.once("data", done));
    const server = await startServer({ env: env(), under: inside() });
    assert.match(server.run.stdout, new RegExp(`http://bandsync-2\\.local:${server.port}/`));
    assert.equal(ask("bandsync-2.local", 5353)?.address, OURS);
    const page = (host) => {
      const options = JSON.stringify({ port: server.port, path: "/dashboard.js", headers: { Host: host } });
      const script = `require("node:http").get(${options}, ({ statusCode }) => process.exit(console.log(statusCode)));`;
      const [run, ...rest] = [...inside(), process.execPath, "-e", script];
      return spawnSync(run, rest, { encoding: "utf8" }).stdout.trim();
    };
    assert.equal(page(`bandsync-2.local:${server.port}`), "200");
    assert.equal(page("band.example"), "421");
    other.kill();
    await server.stop();
  });

  test("is neither printed nor answered with MDNS=off", async (t) => {
    if (!holder) return cannot(t, "no network of its own");
    const server = await startServer({ env: env({ MDNS: "off" }), under: inside() });
    assert.doesNotMatch(server.run.stdout, /\.local:/);
    assert.equal(ask("bandsync.local", 5353), null);
    await server.stop();
  });

  test("is announced in a network that the machine joins later; until then the log says why not", async (t) => {
    if (!holder) return cannot(t, "no network of its own");
    const link = (state) => spawnSync(inside()[0], [...inside().slice(1), "ip", "link", "set", "stage0", state]);
    link("down");
    const server = await startServer({ env: env(), under: inside() });
    assert.doesNotMatch(server.run.stdout, /\.local:/);
    await until("the log says that nothing is announced", () => /bandsync\.local is not announced, use an address instead/.test(server.run.stderr));
    link("up");
    await until("the name answers", () => ask("bandsync.local", 5353)?.address === OURS);
    await server.stop();
  });
});
