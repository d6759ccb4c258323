// A QR code of a text, as rows of modules: ISO/IEC 18004, byte mode, error correction level M, versions 1 to 20.
//
// The text becomes UTF-8 bytes, the bytes become codewords in blocks, and each block gets Reed-Solomon codewords over
// GF(256). The codewords fill the free modules in a zigzag, and of the eight masks the one with the least penalty wins.
// Level M repairs 15 % of the codewords. Version 20 holds 666 bytes, more than any address of this page.

/** Check codewords of a block, and the number of blocks, by version from 1: level M of table 9 of the standard. */
const BLOCKS = [
  [10, 1], [16, 1], [26, 1], [18, 2], [24, 2], [16, 4], [18, 4], [22, 4], [22, 5], [26, 5],
  [30, 5], [22, 8], [22, 9], [24, 9], [24, 10], [28, 10], [28, 11], [26, 13], [26, 14], [26, 16],
];

/** The first and the last centre of an alignment pattern besides 6, and the step between two, by version from 1. */
const ALIGNMENT = [
  null, [18, 18, 1], [22, 22, 1], [26, 26, 1], [30, 30, 1], [34, 34, 1], [22, 38, 16], [24, 42, 18], [26, 46, 20], [28, 50, 22],
  [30, 54, 24], [32, 58, 26], [34, 62, 28], [26, 66, 20], [26, 70, 22], [26, 74, 24], [30, 78, 24], [30, 82, 26], [30, 86, 28],
  [34, 90, 28],
];

const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => ((x - (x % 3)) / 3 + (y >> 1)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/**
 * Returns the QR code of `text` as rows of booleans, true for a dark module. The quiet zone of four modules around it
 * is not included. Throws a RangeError if the text has more than 666 bytes.
 * @param {string} text
 * @param {{ mask?: number }} [options] `mask`, 0 to 7, is chosen by the penalty rules by default
 * @returns {boolean[][]}
 */
export function qrCode(text, { mask } = {}) {
  const bytes = new TextEncoder().encode(text);
  const version = versionFor(bytes.length);
  const grid = new Grid(version);
  grid.fill(codewords(bytes, version));
  const masks = mask === undefined ? MASKS.keys() : [mask];
  const made = Array.from(masks, (number) => grid.masked(number));
  return made.reduce((best, other) => (penalty(other) < penalty(best) ? other : best));
}

/**
 * Returns the outline of the dark modules for the `d` attribute of an SVG path, one unit a module, with a quiet zone
 * of four modules, and the width of the whole.
 * @param {boolean[][]} modules
 */
export function qrPath(modules) {
  let d = "";
  for (const [y, row] of modules.entries()) {
    for (let x = 0; x < row.length; x += 1) {
      if (!row[x]) continue;
      const from = x;
      while (row[x + 1]) x += 1;
      d += `M${from + 4} ${y + 4}h${x + 1 - from}v1h-${x + 1 - from}z`;
    }
  }
  return { d, size: modules.length + 8 };
}

const sizeOf = (version) => 17 + 4 * version;

/** Modules that are left for data when the function patterns are drawn, in whole codewords. */
function codewordsOf(version) {
  const side = sizeOf(version);
  const alignments = version === 1 ? 0 : (Math.floor(version / 7) + 2) ** 2 - 3;
  // Two of the alignment patterns on each timing line overlap it by five modules.
  const onTiming = version < 7 ? 0 : 2 * Math.floor(version / 7);
  const finders = 3 * 64;
  const timing = 2 * (side - 16);
  const formats = 31;
  const versions = version < 7 ? 0 : 36;
  return (side * side - finders - timing - formats - versions - 25 * alignments + 5 * onTiming) >> 3;
}

function versionFor(length) {
  for (const [i, [checks, blocks]] of BLOCKS.entries()) {
    const version = i + 1;
    const room = codewordsOf(version) - checks * blocks;
    if (4 + lengthBits(version) + 8 * length <= 8 * room) return version;
  }
  throw new RangeError(`a QR code of at most version ${BLOCKS.length} cannot hold ${length} bytes`);
}

const lengthBits = (version) => (version < 10 ? 8 : 16);

/** All codewords in the order in which they are drawn: data and checks, interleaved over the blocks. */
function codewords(bytes, version) {
  const [checks, blocks] = BLOCKS[version - 1];
  const room = codewordsOf(version) - checks * blocks;
  const data = dataCodewords(bytes, version, room);
  const short = Math.floor(room / blocks);
  const parts = [];
  for (let i = 0, at = 0; i < blocks; i += 1) {
    const length = short + (i >= blocks - (room % blocks) ? 1 : 0);
    parts.push(data.slice(at, at + length));
    at += length;
  }
  const divisor = generator(checks);
  const checked = parts.map((part) => remainder(part, divisor));
  const woven = [];
  for (const list of [parts, checked]) {
    for (let i = 0; i < list.at(-1).length; i += 1) {
      for (const part of list) if (i < part.length) woven.push(part[i]);
    }
  }
  return woven;
}

/** Mode, length, bytes, terminator, and padding up to `room` codewords. */
function dataCodewords(bytes, version, room) {
  const bits = [];
  const put = (value, count) => {
    for (let i = count - 1; i >= 0; i -= 1) bits.push((value >> i) & 1);
  };
  put(0b0100, 4);
  put(bytes.length, lengthBits(version));
  for (const byte of bytes) put(byte, 8);
  put(0, Math.min(4, 8 * room - bits.length));
  while (bits.length % 8 > 0) bits.push(0);
  for (let pad = 0xec; bits.length < 8 * room; pad ^= 0xec ^ 0x11) put(pad, 8);
  return Array.from({ length: room }, (_, i) => parseInt(bits.slice(8 * i, 8 * i + 8).join(""), 2));
}

/** Product in GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1. */
function times(a, b) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    product = (product << 1) ^ (product & 0x80 ? 0x11d : 0);
    if ((b >> bit) & 1) product ^= a;
  }
  return product;
}

/** The product of (x - 2^i) for i below `degree`, without its leading 1, highest power first. */
function generator(degree) {
  let polynomial = [1];
  let root = 1;
  for (let i = 0; i < degree; i += 1) {
    const shifted = [...polynomial, 0];
    polynomial = shifted.map((value, k) => value ^ (k > 0 ? times(polynomial[k - 1], root) : 0));
    root = times(root, 2);
  }
  return polynomial.slice(1);
}

function remainder(data, divisor) {
  const rest = new Array(divisor.length).fill(0);
  for (const value of data) {
    const factor = value ^ rest.shift();
    rest.push(0);
    for (const [i, each] of divisor.entries()) rest[i] ^= times(each, factor);
  }
  return rest;
}

/** Five or six bits of data with their check bits of a BCH code. */
function bch(data, checks, divisor) {
  let rest = data;
  for (let i = 0; i < checks; i += 1) rest = (rest << 1) ^ ((rest >> (checks - 1)) & 1 ? divisor : 0);
  return (data << checks) | (rest & ((1 << checks) - 1));
}

/** The modules of a code. `fixed` marks those of function patterns, which no mask changes. */
class Grid {
  constructor(version) {
    this.version = version;
    this.side = sizeOf(version);
    const rows = (value) => Array.from({ length: this.side }, () => new Array(this.side).fill(value));
    this.dark = rows(false);
    this.fixed = rows(false);
    this.#patterns();
  }

  #set(x, y, dark) {
    if (x < 0 || y < 0 || x >= this.side || y >= this.side) return;
    this.dark[y][x] = Boolean(dark);
    this.fixed[y][x] = true;
  }

  /** A square of rings around (x, y): the rings whose distance is in `light` are light. */
  #rings(x, y, radius, light) {
    for (let dy = -radius; dy <= radius; dy += 1) {
      for (let dx = -radius; dx <= radius; dx += 1) {
        this.#set(x + dx, y + dy, !light.includes(Math.max(Math.abs(dx), Math.abs(dy))));
      }
    }
  }

  #patterns() {
    const last = this.side - 1;
    for (let i = 0; i < this.side; i += 1) {
      this.#set(i, 6, i % 2 === 0);
      this.#set(6, i, i % 2 === 0);
    }
    for (const [x, y] of [[3, 3], [last - 3, 3], [3, last - 3]]) this.#rings(x, y, 4, [2, 4]);
    const [first, end, step] = ALIGNMENT[this.version - 1] ?? [1, 0, 1];
    const centres = first > end ? [] : [6];
    for (let at = first; at <= end; at += step) centres.push(at);
    for (const y of centres) {
      for (const x of centres) {
        const onFinder = [[6, 6], [6, end], [end, 6]].some(([fx, fy]) => x === fx && y === fy);
        if (!onFinder) this.#rings(x, y, 2, [1]);
      }
    }
    this.#format(0);
    if (this.version >= 7) this.#versions();
  }

  /** Level M (00) and the mask, twice, and the module that is always dark. */
  #format(mask) {
    const bits = bch(mask, 10, 0x537) ^ 0x5412;
    const bit = (i) => (bits >> i) & 1;
    const last = this.side - 1;
    for (let i = 0; i < 15; i += 1) {
      if (i < 6) this.#set(8, i, bit(i));
      else if (i < 8) this.#set(8, i + 1, bit(i));
      else if (i === 8) this.#set(7, 8, bit(i));
      else this.#set(14 - i, 8, bit(i));
      if (i < 8) this.#set(last - i, 8, bit(i));
      else this.#set(8, last - 14 + i, bit(i));
    }
    this.#set(8, last - 7, true);
  }

  #versions() {
    const bits = bch(this.version, 12, 0x1f25);
    for (let i = 0; i < 18; i += 1) {
      const far = this.side - 11 + (i % 3);
      const near = Math.floor(i / 3);
      this.#set(far, near, (bits >> i) & 1);
      this.#set(near, far, (bits >> i) & 1);
    }
  }

  /** Draws codewords from the lower right corner, in columns of two, up and down. */
  fill(words) {
    let i = 0;
    let up = true;
    for (let right = this.side - 1; right > 0; right -= 2) {
      if (right === 6) right -= 1;
      for (let k = 0; k < this.side; k += 1) {
        const y = up ? this.side - 1 - k : k;
        for (const x of [right, right - 1]) {
          if (this.fixed[y][x]) continue;
          this.dark[y][x] = ((words[i >> 3] ?? 0) >> (7 - (i & 7))) % 2 === 1;
          i += 1;
        }
      }
      up = !up;
    }
  }

  masked(mask) {
    this.#format(mask);
    const flips = MASKS[mask];
    return this.dark.map((row, y) => row.map((dark, x) => dark !== (!this.fixed[y][x] && flips(x, y))));
  }
}

/** The penalty of the standard: runs, squares, patterns that look like a finder, and an uneven share of dark modules. */
function penalty(rows) {
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  let points = 0;
  for (const line of [...rows, ...columns]) {
    const text = line.map(Number).join("");
    for (const [run] of text.matchAll(/0{5,}|1{5,}/g)) points += run.length - 2;
    for (const pattern of ["10111010000", "00001011101"]) {
      for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + 1)) points += 40;
    }
  }
  for (let y = 1; y < rows.length; y += 1) {
    for (let x = 1; x < rows.length; x += 1) {
      const same = rows[y][x] === rows[y][x - 1] && rows[y][x] === rows[y - 1][x] && rows[y][x] === rows[y - 1][x - 1];
      if (same) points += 3;
    }
  }
  const dark = rows.flat().filter(Boolean).length / rows.length ** 2;
  return points + 10 * Math.floor(Math.abs(dark - 0.5) * 20);
}
