// A TCP proxy with a bad network in it: seeded, so that a run that failed can be had again.
import net from "node:net";

/** Numbers from 0 to 1 that a seed determines: good enough to cut bytes at. */
export function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Stands before a server; `port` and `url` are those of the proxy, and a client's `owns` goes to the server.
 *
 * `chop`: most bytes that go on in one piece. `delay` and `jitter` in ms: order is kept, as TCP keeps it. All of them
 * may be changed later, in `weather`.
 */
export async function badNetwork(server, { seed = 1, chop = Infinity, delay = 0, jitter = 0 } = {}) {
  const weather = { chop, delay, jitter };
  const random = chance(seed);
  const pairs = new Set();
  const frozen = { up: false, down: false };

  const pass = (from, to, way) => {
    let due = 0;
    const waiting = [];
    const flush = () => {
      while (waiting.length > 0 && !frozen[way]) to.write(waiting.shift());
    };
    from.on("data", (bytes) => {
      const { chop, delay, jitter } = weather;
      const pieces = [];
      for (let at = 0; at < bytes.length; ) {
        const length = chop === Infinity ? bytes.length : 1 + Math.floor(random() * chop);
        pieces.push(bytes.subarray(at, at + length));
        at += length;
      }
      due = Math.max(due, performance.now() + delay + random() * jitter);
      const go = () => {
        waiting.push(...pieces);
        flush();
      };
      if (delay + jitter === 0 && due <= performance.now()) go();
      else setTimeout(go, due - performance.now());
    });
    from.on("end", () => setTimeout(() => to.end(), weather.delay + weather.jitter));
    return flush;
  };

  const listener = net.createServer((near) => {
    const far = net.connect(server.port, "127.0.0.1");
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
    }
    const pair = { near, far, flushes: [pass(near, far, "up"), pass(far, near, "down")] };
    pairs.add(pair);
    const gone = () => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    near.once("close", gone);
    far.once("close", gone);
  });
  await new Promise((done) => listener.listen(0, "127.0.0.1", done));
  const { port } = listener.address();
  const stop = () => {
    listener.close();
    for (const { near, far } of pairs) {
      near.destroy();
      far.destroy();
    }
  };
  server.owns(stop);

  return {
    port,
    weather,
    url: `http://127.0.0.1:${port}`,
    owns: (close) => server.owns(close),
    /** Resets every connection, as a network that changed its address does. */
    cut() {
      for (const { near, far } of pairs) {
        near.resetAndDestroy();
        far.resetAndDestroy();
      }
    },
    /** Lets nothing through any more, in one direction or both; the connections stay. */
    freeze(...ways) {
      for (const way of ways.length ? ways : ["up", "down"]) frozen[way] = true;
    },
    /** Lets through again, first what was held back. */
    thaw() {
      frozen.up = frozen.down = false;
      for (const { flushes } of pairs) flushes.forEach((flush) => flush());
    },
    stop,
  };
}
