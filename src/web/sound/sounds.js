// The sounds of the click, computed sample by sample: no file is loaded, and every device makes the same ones.

/** Seconds that a sound lasts: shorter than the shortest half beat, at 400 BPM. */
const SECONDS = 0.06;
/** Seconds from silence to full: too short to be heard as late, long enough not to crackle. */
const ATTACK = 0.0005;

const decay = (t, seconds) => Math.exp(-t / seconds);
const tone = (t, hertz) => Math.sin(2 * Math.PI * hertz * t);

const SOUNDS = {
  /** A sine and its octave. */
  tick: (t, pitch) => (tone(t, 1175 * pitch) + 0.3 * tone(t, 2350 * pitch)) * decay(t, 0.011),
  /** A wood block: two resonances, the higher one shorter. */
  wood: (t, pitch) => tone(t, 760 * pitch) * decay(t, 0.014) + 0.7 * tone(t, 1480 * pitch) * decay(t, 0.006),
  /** A closed hi-hat: noise without its low part. */
  hat: (t, pitch, noise) => noise * decay(t, 0.009 * pitch),
};

/** The names of the sounds. */
export const NAMES = Object.keys(SOUNDS);

/**
 * Returns the samples of a sound, with a peak of 1.
 * @param {"tick" | "wood" | "hat"} name @param {number} rate samples per second @param {number} pitch factor
 */
export function samplesOf(name, rate, pitch = 1) {
  const sound = SOUNDS[name] ?? SOUNDS.tick;
  const samples = new Float32Array(Math.round(SECONDS * rate));
  let seed = 1;
  const history = [0, 0];
  let peak = 0;
  for (let i = 0; i < samples.length; i += 1) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    const white = seed / 2 ** 31 - 1;
    // The second difference is a high pass.
    const noise = white - 2 * history[0] + history[1];
    history.unshift(white);
    history.length = 2;
    const t = i / rate;
    const fade = Math.min(1, (t + 1 / rate) / ATTACK, (samples.length - i) / (0.005 * rate));
    samples[i] = fade * sound(t, pitch, noise);
    peak = Math.max(peak, Math.abs(samples[i]));
  }
  return samples.map((value) => value / peak);
}
