// A TCP proxy that behaves like a bad network. It is seeded, so a failed run can be repeated.
import net from "node:net";

/** A seeded generator of numbers from 0 to 1. Its quality suffices for cutting bytes. */
export function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Starts a proxy in front of a server. `port` and `url` are those of the proxy; `owns` is the
 * server's.
 *
 * `chop` is the maximum number of bytes in one piece, `delay` and `jitter` are in ms. Order is
 * kept, as TCP keeps it. All three may be changed later in `weather`.
 */
export async function badNetwork(server, { seed = 1, chop = Infinity, delay = 0, jitter = 0 } = {}) {
  const weather = { chop, delay, jitter };
  const random = chance(seed);
  const pairs = new Set();
  const frozen = { up: false, down: false };

  const pass = (from, to, way) => {
    /** Pieces in the order of their bytes, each with the time at which it goes on. */
    const waiting = [];
    let due = 0;
    let timer = null;
    const flush = () => {
      clearTimeout(timer);
      timer = null;
      while (waiting.length > 0 && !frozen[way]) {
        // A timer may fire early by a part of a millisecond.
        const rest = waiting[0].due - performance.now();
        if (rest > 0) {
          timer = setTimeout(flush, rest);
          return;
        }
        to.write(waiting.shift().bytes);
      }
    };
    from.on("data", (bytes) => {
      const { chop, delay, jitter } = weather;
      due = Math.max(due, performance.now() + (delay + jitter > 0 ? delay + random() * jitter : 0));
      for (let at = 0; at < bytes.length; ) {
        const length = chop === Infinity ? bytes.length : 1 + Math.floor(random() * chop);
        waiting.push({ due, bytes: bytes.subarray(at, at + length) });
        at += length;
      }
      // One timer for all pieces: with one for each, a later piece may overtake.
      if (timer === null) flush();
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
    /** Resets every connection, as happens when a client's address changes. */
    cut() {
      for (const { near, far } of pairs) {
        near.resetAndDestroy();
        far.resetAndDestroy();
      }
    },
    /** Holds back all bytes in one direction or both. The connections stay open. */
    freeze(...ways) {
      for (const way of ways.length ? ways : ["up", "down"]) frozen[way] = true;
    },
    /** Forwards the bytes held back, then all others again. */
    thaw() {
      frozen.up = frozen.down = false;
      for (const { flushes } of pairs) flushes.forEach((flush) => flush());
    },
    stop,
  };
}
