import assert from "node:assert/strict";
import test from "node:test";
import jsQR from "jsqr";
import { qrCode, qrPath } from "../../../src/web/stage/qr.js";
import { Random } from "./random.js";

/** Bytes that each version holds at level M in byte mode, from table 7 of the standard. */
const CAPACITY = [14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251, 287, 331, 362, 412, 450, 504, 560, 624, 666];

/** Made by the Python package qrcode 8.2 for the text below, level M. */
const ADDRESS = "http://192.168.1.5:3001/?session=stage";
const KNOWN = `
#######.#.##.####...#.#######
#.....#....#....#.###.#.....#
#.###.#...###.#####...#.###.#
#.###.#.####.####...#.#.###.#
#.###.#.###########.#.#.###.#
#.....#.#.##.#...#.##.#.....#
#######.#.#.#.#.#.#.#.#######
........###...##.##..........
#...#.###.#.###.####.#####..#
.#.#...#.##...####..###.#####
.###..##.....###..#.#.#.....#
..####.##...##..####.#.#...##
..#..###..#..#..##.#...#...#.
####.....#.######...###.##.##
#.....##....#..#.....#.##.#.#
#.##...##.###.##.###.##.#..##
..#..##.##.#######.......#.#.
##..##....#.#..#..#.#.#.#..##
...#..#.##...######.#..####.#
..#..#..#....#...##.##.#...##
##.#.###.###.#.#.#.#######..#
........###.#####...#...#...#
#######.#..##..#...##.#.###.#
#.....#..####.#..##.#...#..#.
#.###.#.##...###.#.######..#.
#.###.#..##.##.##..#...#.##.#
#.###.#....#.#.#...##..#.#.##
#.....#...#...#####.###....##
#######.####.###.#.###.....#.
`.trim();

const text = (modules) => modules.map((row) => row.map((dark) => (dark ? "#" : ".")).join("")).join("\n");

/** Reads a code with a decoder of others, from a picture with 4 pixels a module. */
function decoded(modules) {
  const scale = 4;
  const side = scale * (modules.length + 8);
  const pixels = new Uint8ClampedArray(4 * side * side).fill(255);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      if (!modules[Math.floor(y / scale) - 4]?.[Math.floor(x / scale) - 4]) continue;
      pixels.fill(0, 4 * (y * side + x), 4 * (y * side + x) + 3);
    }
  }
  const found = (jsQR.default ?? jsQR)(pixels, side, side);
  return found && new TextDecoder().decode(Uint8Array.from(found.binaryData));
}

test("a code of a known text equals that of another encoder", () => {
  assert.equal(text(qrCode(ADDRESS, { mask: 4 })), KNOWN);
});

test("an independent decoder reads every version, full and with one byte more than the version before", () => {
  const random = new Random(1);
  const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:?=&%#-_.~";
  const drawn = (length) => Array.from({ length }, () => random.pick([...letters])).join("");
  for (const [i, most] of CAPACITY.entries()) {
    for (const length of [most, (CAPACITY[i - 1] ?? 0) + 1]) {
      const address = drawn(length);
      const modules = qrCode(address);
      assert.equal(modules.length, 21 + 4 * i, `${length} bytes`);
      assert.equal(decoded(modules), address, `${length} bytes`);
    }
  }
});

test("an independent decoder reads every mask, and any script", () => {
  for (let mask = 0; mask < 8; mask += 1) assert.equal(decoded(qrCode("Über 🎸 בנד", { mask })), "Über 🎸 בנד");
});

test("the mask has the least penalty, so codes of equal bytes get different masks", () => {
  const masks = [0, 1, 2, 3, 4, 5, 6, 7];
  const chosen = ["a", "bandsync", "http://10.0.0.2:3001/", ADDRESS].map((each) =>
    masks.find((mask) => text(qrCode(each, { mask })) === text(qrCode(each))),
  );
  assert.ok(chosen.every((mask) => mask !== undefined));
  assert.ok(new Set(chosen).size > 1, `${chosen}`);
});

test("a damaged code is still read", () => {
  const modules = qrCode(ADDRESS);
  for (let i = 0; i < 12; i += 1) modules[12 + (i % 4)][14 + Math.floor(i / 4)] = !modules[12 + (i % 4)][14 + Math.floor(i / 4)];
  assert.equal(decoded(modules), ADDRESS);
});

test("a text that is too long is refused with its length", () => {
  assert.throws(() => qrCode("x".repeat(667)), /667 bytes/);
});

test("the path draws every dark module once, with a quiet zone of four", () => {
  const modules = qrCode("x");
  const { d, size } = qrPath(modules);
  const area = [...d.matchAll(/M(\d+) (\d+)h(\d+)v1h-\3z/g)];
  assert.equal(area.map(([all]) => all).join(""), d);
  assert.equal(size, 29);
  for (const [, x, y, width] of area) for (let i = 0; i < width; i += 1) assert.ok(modules[y - 4][Number(x) + i - 4]);
  assert.equal(area.reduce((sum, [, , , width]) => sum + Number(width), 0), modules.flat().filter(Boolean).length);
});
