import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { inflateSync } from "node:zlib";
import { iconRows, makeVideo } from "./make-media.js";

const read = (name) => readFileSync(new URL(`../../../src/web/${name}`, import.meta.url));

test("the video equals the output of its generator, and has a few kB", () => {
  assert.ok(read("sound/awake.mp4").equals(makeVideo()), "run make-media.js --write");
  assert.ok(makeVideo().length < 4096, `${makeVideo().length} bytes`);
});

test("the boxes of the video fill it, and the sample tables point to the samples", () => {
  const video = makeVideo();
  const boxes = new Map();
  const walk = (from, to, path) => {
    let at = from;
    while (at < to) {
      const size = video.readUInt32BE(at);
      const type = video.toString("latin1", at + 4, at + 8);
      boxes.set(`${path}${type}`, [...(boxes.get(`${path}${type}`) ?? []), { at: at + 8, size: size - 8 }]);
      if (["moov", "trak", "mdia", "minf", "stbl"].includes(type)) walk(at + 8, at + size, `${path}${type}.`);
      at += size;
    }
    assert.equal(at, to, path);
  };
  walk(0, video.length, "");
  const table = "moov.trak.mdia.minf.stbl.";
  const [data] = boxes.get("mdat");
  const offsets = boxes.get(`${table}stco`).map(({ at }) => video.readUInt32BE(at + 8));
  assert.equal(offsets[0], data.at);
  const sizes = boxes.get(`${table}stsz`).map(({ at }) => {
    const each = video.readUInt32BE(at + 4);
    const count = video.readUInt32BE(at + 8);
    return each > 0
      ? each * count
      : Array.from({ length: count }, (_, i) => video.readUInt32BE(at + 12 + 4 * i)).reduce((a, b) => a + b);
  });
  assert.equal(offsets[1], data.at + sizes[0]);
  assert.equal(sizes[0] + sizes[1], data.size);
});

test("the icon shows what its generator draws", () => {
  const icon = read("icon.png");
  const at = icon.indexOf("IDAT");
  const rows = inflateSync(icon.subarray(at + 4, at + 4 + icon.readUInt32BE(at - 4)));
  const drawn = Buffer.concat(iconRows().map((row) => Buffer.from([0, ...row])));
  assert.ok(rows.equals(drawn), "run make-media.js --write");
});
