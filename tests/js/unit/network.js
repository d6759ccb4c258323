// Simulates a network between a client with a drifting clock and the server. All times are in ms,
// and true time is that of the server.

import { Random } from "./random.js";

/**
 * One-way delays [up, down] of a probe in ms. Measured: minimum and tail of each kind of network.
 */
const DELAYS = {
  wired: (r) => [0.1 + Math.abs(0.035 * r.normal()), 0.1 + Math.abs(0.035 * r.normal())],
  goodWifi: (r, burst) => [1.5 + r.exponential(1) + burst * r.unit(), 1.5 + r.exponential(1) + burst * r.unit()],
  busyPhone: (r, burst) => {
    const [up, down] = DELAYS.goodWifi(r, burst);
    return [up, down + r.exponential(0.3) + (r.unit() < 0.1 ? r.range(0, 16) : 0)];
  },
  badWifi: (r) => {
    const leg = () => 10 + 7.5 * 1.2 * (r.unit() ** (-1 / 2.2) - 1) + (r.unit() < 0.005 ? r.range(150, 250) : 0);
    return [leg(), leg()];
  },
  mobile: (r) => [18 + 12 * r.normal() ** 2, 12 + 8 * r.normal() ** 2],
};

export const NETWORKS = Object.keys(DELAYS);

export class Network {
  #random;
  #delays;
  #offset;
  #skew;
  #burstEnds = -1;
  #nextBurst;
  /** Start of a step of the client's clock by `#step`. */
  #stepAt = Infinity;
  #step = 0;

  constructor(kind, seed, { ppm = 100 } = {}) {
    this.#random = new Random(seed);
    this.#delays = DELAYS[kind];
    this.#offset = this.#random.range(-1e6, 1e6);
    this.#skew = this.#random.range(-ppm, ppm) * 1e-6;
    this.#nextBurst = this.#random.exponential(20_000);
  }

  step(at, by) {
    this.#stepAt = at;
    this.#step = by;
  }

  /** The client's clock at true time `t`. */
  local(t) {
    return this.#offset + t * (1 + this.#skew) + (t >= this.#stepAt ? this.#step : 0);
  }

  /** The four timestamps of a probe sent at true time `t`, and the true time of its answer. */
  probe(t) {
    while (t > this.#nextBurst) {
      this.#burstEnds = this.#nextBurst + this.#random.exponential(500);
      this.#nextBurst += this.#random.exponential(20_000);
    }
    const [up, down] = this.#delays(this.#random, t < this.#burstEnds ? 15 : 0);
    const held = this.#random.exponential(0.02);
    const back = t + up + held + down;
    const stamps = [
      floorTo(this.local(t), 0.1),
      floorTo(t + up, 0.001),
      floorTo(t + up + held, 0.001),
      floorTo(this.local(back), 0.1),
    ];
    return { stamps, back };
  }
}

/** Rounds down as browsers do, without binary noise, so that the number is short in JSON. */
function floorTo(x, unit) {
  return Number((Math.floor(x / unit) * unit).toFixed(3));
}
