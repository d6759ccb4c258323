// A seeded generator of random numbers, so that every run of a test is the same.

export class Random {
  #state;

  constructor(seed) {
    this.#state = BigInt.asUintN(64, BigInt(seed));
  }

  /** The next 64 bits of splitmix64, which is short and gives the same numbers in any language. */
  next() {
    this.#state = BigInt.asUintN(64, this.#state + 0x9e3779b97f4a7c15n);
    let z = this.#state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  }

  /** Uniform in (0, 1). */
  unit() {
    return (Number(this.next() >> 11n) + 0.5) / 2 ** 53;
  }

  /** Uniform real in [lo, hi). */
  range(lo, hi) {
    return lo + (hi - lo) * this.unit();
  }

  /** Uniform integer in [lo, hi], both included. */
  int(lo, hi) {
    return lo + Number(this.next() % BigInt(hi - lo + 1));
  }

  pick(list) {
    return list[this.int(0, list.length - 1)];
  }

  /** Exponential with the given mean. */
  exponential(mean) {
    return -mean * Math.log(this.unit());
  }

  normal() {
    return Math.sqrt(-2 * Math.log(this.unit())) * Math.cos(2 * Math.PI * this.unit());
  }
}
