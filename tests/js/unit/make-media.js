// Writes src/web/sound/awake.mp4 and src/web/icon.png, always with the same picture and sound.
//
//   node tests/js/unit/make-media.js --write
//
// The video keeps a screen on where the wake lock does not exist, so it must count as a real one: it has a picture (black,
// 64 by 64, one frame a second) and an audio track (silence). It is encoded here by hand, because nothing in it ever
// changes: the first frame is one macroblock of a black level that all others predict from, every later frame says
// "skip everything", and every audio frame is the same four bytes.

import { writeFileSync } from "node:fs";
import { deflateSync } from "node:zlib";

/** Frames of the video: seconds, because there is one a second. */
const SECONDS = 30;
const SIDE = 64;
const AUDIO_RATE = 16_000;
/** Samples of an AAC frame. */
const AAC_FRAME = 1024;

class Bits {
  #bits = [];

  u(value, count) {
    for (let i = count - 1; i >= 0; i -= 1) this.#bits.push((value >> i) & 1);
    return this;
  }

  /** An unsigned number in exponential Golomb code. */
  ue(value) {
    const length = Math.floor(Math.log2(value + 1));
    return this.u(0, length).u(value + 1, length + 1);
  }

  se(value) {
    return this.ue(value > 0 ? 2 * value - 1 : -2 * value);
  }

  text(bits) {
    for (const bit of bits.replaceAll(" ", "")) this.#bits.push(Number(bit));
    return this;
  }

  /** The bytes, with the stop bit of a NAL unit and zeros after it. */
  stopped() {
    return this.u(1, 1).bytes();
  }

  bytes() {
    while (this.#bits.length % 8 > 0) this.#bits.push(0);
    const bytes = new Uint8Array(this.#bits.length / 8);
    for (const [i, bit] of this.#bits.entries()) bytes[i >> 3] |= bit << (7 - (i & 7));
    return bytes;
  }
}

/** A NAL unit of H.264: header, and payload with emulation prevention. */
function nal(header, payload) {
  const out = [header];
  let zeros = 0;
  for (const byte of payload) {
    if (zeros >= 2 && byte <= 3) {
      out.push(3);
      zeros = 0;
    }
    out.push(byte);
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return Uint8Array.from(out);
}

const MACROBLOCKS = (SIDE / 16) ** 2;

/** Constrained baseline, level 1.0; frame numbers of 4 bits, pictures in the order of decoding. */
function sequenceParameters() {
  const bits = new Bits().u(66, 8).u(0b1100_0000, 8).u(10, 8);
  bits.ue(0).ue(0).ue(2).ue(1).u(0, 1);
  bits.ue(SIDE / 16 - 1).ue(SIDE / 16 - 1).u(1, 1).u(1, 1).u(0, 1).u(0, 1);
  return nal(0x67, bits.stopped());
}

/** CAVLC, one slice group, one reference picture, quantizer 26, deblocking controlled by the slice. */
function pictureParameters() {
  const bits = new Bits().ue(0).ue(0).u(0, 1).u(0, 1).ue(0).ue(0).ue(0).u(0, 1).u(0, 2).se(0).se(0).se(0).u(1, 1).u(0, 1).u(0, 1);
  return nal(0x68, bits.stopped());
}

/** The first picture: 16 x 16 prediction from the mean. */
function blackPicture() {
  // First macroblock 0, slice type I (7), parameter set 0, frame 0, picture id 0, no marking; quantizer 51; no deblocking.
  const bits = new Bits().ue(0).ue(7).ue(0).u(0, 4).ue(0).u(0, 1).u(0, 1).se(51 - 26).ue(1);
  for (let i = 0; i < MACROBLOCKS; i += 1) {
    // Type I_16x16_2_0_0, chroma from the mean (128, which is grey), no change of the quantizer.
    bits.ue(3).ue(0).se(0);
    if (i > 0) bits.text("1");
    // The mean of nothing is 128. One coefficient of -8 at quantizer 51 takes 112 off, which leaves 16: black.
    // One coefficient (000101), its level -8 (13 zeros and a one), no zeros before it (1).
    else bits.text("000101 00000000000001 1");
  }
  return nal(0x65, bits.stopped());
}

/** A picture that repeats the last one. */
function samePicture(number) {
  // First macroblock 0, slice type P (5), parameter set 0; no other number of references, no reordering, no marking.
  const bits = new Bits().ue(0).ue(5).ue(0).u(number % 16, 4).u(0, 1).u(0, 1).u(0, 1).se(0).ue(1).ue(MACROBLOCKS);
  return nal(0x41, bits.stopped());
}

/** A silent frame of AAC-LC, mono: a single channel element without any band, and the end. */
function silentFrame() {
  const bits = new Bits().u(0, 3).u(0, 4).u(100, 8);
  bits.u(0, 1).u(0, 2).u(0, 1).u(0, 6).u(0, 1).u(0, 1).u(0, 1).u(0, 1).u(0b111, 3);
  return bits.bytes();
}

const join = (...parts) => Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part, "latin1") : Buffer.from(part))));
const u8 = (...values) => Uint8Array.from(values);
const u16 = (...values) => Uint8Array.from(values.flatMap((v) => [v >> 8, v & 255]));
const u32 = (...values) => Uint8Array.from(values.flatMap((v) => [v >>> 24, (v >> 16) & 255, (v >> 8) & 255, v & 255]));
const box = (type, ...parts) => {
  const body = join(...parts);
  return join(u32(body.length + 8), type, body);
};
const fullBox = (type, flags, ...parts) => box(type, u32(flags), ...parts);
const MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

/** Returns the video. */
export function makeVideo() {
  const withLength = (unit) => join(u32(unit.length), unit);
  const pictures = Array.from({ length: SECONDS }, (_, i) => withLength(i === 0 ? blackPicture() : samePicture(i)));
  const frames = Array.from({ length: Math.floor((SECONDS * AUDIO_RATE) / AAC_FRAME) }, silentFrame);
  const ftyp = box("ftyp", "isom", u32(512), "isomiso2avc1mp41");
  // The index stands before the data, so that playing can begin at once. Its size does not depend on the offsets.
  const head = (at) => moov(pictures, frames, at, at + join(...pictures).length);
  const at = ftyp.length + head(0).length + 8;
  return join(ftyp, head(at), box("mdat", ...pictures, ...frames));
}

function moov(pictures, frames, videoAt, audioAt) {
  const length = 1000 * SECONDS;
  const audioLength = Math.floor((1000 * frames.length * AAC_FRAME) / AUDIO_RATE);
  const video = track({
    id: 1, length, scale: 1000, duration: length, kind: "vide", at: videoAt, width: SIDE, samples: pictures, each: 1000,
    media: fullBox("vmhd", 1, u16(0, 0, 0, 0)), entry: videoEntry(), sync: fullBox("stss", 0, u32(1, 1)),
  });
  const audio = track({
    id: 2, length: audioLength, scale: AUDIO_RATE, duration: frames.length * AAC_FRAME, kind: "soun", at: audioAt, width: 0,
    samples: frames, each: AAC_FRAME, media: fullBox("smhd", 0, u16(0, 0)), entry: audioEntry(), sync: u8(),
  });
  const movie = fullBox("mvhd", 0, u32(0, 0, 1000, length, 0x10000), u16(0x100, 0), u32(0, 0), MATRIX, new Uint8Array(24), u32(3));
  return box("moov", movie, video, audio);
}

function track({ id, length, scale, duration, kind, at, width, samples, each, media, entry, sync }) {
  const volume = kind === "soun" ? 0x100 : 0;
  const size = u32(width << 16, width << 16);
  const header = fullBox("tkhd", 3, u32(0, 0, id, 0, length, 0, 0), u16(0, 0, volume, 0), MATRIX, size);
  const isEqual = samples.every((sample) => sample.length === samples[0].length);
  const sizes = isEqual ? u32(samples[0].length, samples.length) : u32(0, samples.length, ...samples.map((sample) => sample.length));
  const table = box(
    "stbl",
    fullBox("stsd", 0, u32(1), entry),
    fullBox("stts", 0, u32(1, samples.length, each)),
    sync,
    fullBox("stsc", 0, u32(1, 1, samples.length, 1)),
    fullBox("stsz", 0, sizes),
    fullBox("stco", 0, u32(1, at)),
  );
  const data = box("dinf", fullBox("dref", 0, u32(1), fullBox("url ", 1)));
  const language = u16(0x55c4, 0); // undetermined
  return box(
    "trak",
    header,
    box(
      "mdia",
      fullBox("mdhd", 0, u32(0, 0, scale, duration), language),
      fullBox("hdlr", 0, u32(0), kind, new Uint8Array(12), "\0"),
      box("minf", media, data, table),
    ),
  );
}

function videoEntry() {
  const [sps, pps] = [sequenceParameters(), pictureParameters()];
  const config = box("avcC", u8(1, sps[1], sps[2], sps[3], 0xff, 0xe1), u16(sps.length), sps, u8(1), u16(pps.length), pps);
  return box(
    "avc1", new Uint8Array(6), u16(1), new Uint8Array(16), u16(SIDE, SIDE), u32(0x480000, 0x480000, 0), u16(1), new Uint8Array(32),
    u16(24, 0xffff), config,
  );
}

function audioEntry() {
  // AAC-LC (2), 16 kHz (index 8), one channel.
  const config = new Bits().u(2, 5).u(8, 4).u(1, 4).u(0, 3).bytes();
  const descriptor = (tag, ...parts) => {
    const body = join(...parts);
    return join(u8(tag, body.length), body);
  };
  const decoder = descriptor(4, u8(0x40, 0x15, 0, 0, 0), u32(1000, 1000), descriptor(5, config));
  const stream = descriptor(3, u16(1), u8(0), decoder, descriptor(6, u8(2)));
  return box("mp4a", new Uint8Array(6), u16(1), new Uint8Array(8), u16(1, 16, 0, 0), u32(AUDIO_RATE << 16), fullBox("esds", 0, stream));
}

/** Width of the icon. iOS rounds its corners, so the drawing fills the square. */
const ICON = 512;
const PALETTE = [[0x0b, 0x0d, 0x10], [0xff, 0xb5, 0x47], [0xf4, 0xf1, 0xea]];
/** The bars of favicon.svg, in its 32 units: x, y, height, colour. */
const BARS = [[6, 7, 18, 1], [14, 12, 13, 2], [22, 17, 8, 2]];

/** Colour of the icon at a point in units of favicon.svg. */
function colourAt(x, y) {
  for (const [left, top, height, colour] of BARS) {
    // A bar is all points within 2 units of its middle line.
    const nearest = Math.min(Math.max(y, top + 2), top + height - 2);
    if (Math.hypot(x - left - 2, y - nearest) <= 2) return colour;
  }
  return 0;
}

/** Returns the rows of the icon, a byte a pixel. */
export function iconRows() {
  const at = (i) => ((i + 0.5) * 32) / ICON;
  return Array.from({ length: ICON }, (_, y) => Uint8Array.from({ length: ICON }, (__, x) => colourAt(at(x), at(y))));
}

/** Returns the icon as a PNG with a palette. */
export function makeIcon() {
  const chunk = (type, ...parts) => {
    const body = join(type, ...parts);
    return join(u32(body.length - 4), body, u32(crc(body)));
  };
  const rows = iconRows().flatMap((row) => [u8(0), row]);
  return join(
    u8(0x89), "PNG\r\n\x1a\n",
    chunk("IHDR", u32(ICON, ICON), u8(8, 3, 0, 0, 0)),
    chunk("PLTE", u8(...PALETTE.flat())),
    chunk("IDAT", deflateSync(join(...rows), { level: 9 })),
    chunk("IEND"),
  );
}

function crc(bytes) {
  let rest = -1;
  for (const byte of bytes) {
    rest ^= byte;
    for (let i = 0; i < 8; i += 1) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return (rest ^ -1) >>> 0;
}

/** The files by their path in src/web. */
export const FILES = { "sound/awake.mp4": makeVideo, "icon.png": makeIcon };

// A test runner that is given the folder runs this file too, so only `--write` writes the files.
if (process.argv.includes("--write")) {
  for (const [path, make] of Object.entries(FILES)) writeFileSync(new URL(`../../../src/web/${path}`, import.meta.url), make());
}
