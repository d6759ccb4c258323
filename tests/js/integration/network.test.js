// The bad network of the tests is TCP all the same: it delays and cuts bytes into pieces, and keeps their order.
import assert from "node:assert/strict";
import net from "node:net";
import { after, test } from "node:test";
import { badNetwork } from "../support/proxy.js";
import { PATIENCE_MS, deferred, within } from "../support/wait.js";

const NUMBERS = 4000;
const closers = [];
after(() => closers.forEach((close) => close()));

/** Keeps the computer busy, as browsers and servers beside a test do. */
function work(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test("bytes arrive in the order in which they were sent, whatever the weather and a hold-up do to them", async () => {
  const received = [];
  let length = 0;
  const whole = deferred();
  const far = net.createServer((socket) => socket.on("data", (bytes) => {
    received.push(bytes);
    length += bytes.length;
    if (length >= 4 * NUMBERS) whole.resolve();
  }));
  await new Promise((done) => far.listen(0, "127.0.0.1", done));
  closers.push(() => far.close());
  const server = { port: far.address().port, owns: (close) => closers.push(close) };
  const network = await badNetwork(server, { seed: 3, chop: 7, delay: 1, jitter: 6 });
  const near = net.connect(network.port, "127.0.0.1");
  near.setNoDelay(true);
  closers.push(() => near.destroy());

  for (let i = 0; i < NUMBERS; i += 1) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(i);
    near.write(bytes);
    if (i % 20 === 0) {
      work(Math.random() * 2);
      await new Promise((done) => setImmediate(done));
    }
    if (i === NUMBERS / 4) network.freeze();
    if (i === NUMBERS / 2) network.thaw();
  }
  await within(PATIENCE_MS, whole.promise, () => `${4 * NUMBERS} bytes; so far ${length}`);
  const bytes = Buffer.concat(received);
  const numbers = Array.from({ length: NUMBERS }, (_, i) => bytes.readUInt32BE(4 * i));
  assert.deepEqual(numbers, Array.from({ length: NUMBERS }, (_, i) => i));
});
