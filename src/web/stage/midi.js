// Pedals that send MIDI: notes, controllers and program changes become keys of the page, so they are learned, pressed
// and held as keys are. Only secure pages have MIDI, and the browser asks the musician before the first use.
//
// A key names the message, the channel and the device: the same note on another keyboard turns no page.

import { STAGE, fill } from "../texts.js";

/** Kinds of messages, by the upper half of their first byte. */
const NOTE_OFF = 8;
const NOTE_ON = 9;
const CONTROLLER = 11;
const PROGRAM = 12;
/** Controllers from here on speak to the whole channel, such as “all notes off”. */
const CHANNEL_MODES = 120;
/** A controller at this value or above is pressed. */
const HALF = 64;

/** A key as musicians read it: a pedal's message, or the name of a key. */
export function nameOfSignal(key) {
  if (key === " ") return STAGE.space;
  if (!key.startsWith("midi:")) return key;
  const [, kind, n, channel, ...device] = key.split(":");
  return fill(STAGE.midiSignals[kind] ?? key, { n, channel, device: device.join(":") });
}

let pedals = null;

/** The MIDI pedals of this page. */
export function midiOf(stage) {
  pedals ??= tellsOfCables(stage, new MidiPedals());
  return pedals;
}

/** Says that a learned pedal was unplugged, and that it is back. */
function tellsOfCables(stage, midi) {
  const uses = (name) => Object.values(stage.view.pedals).flat().some((key) => key.endsWith(`:${name}`));
  for (const [type, text] of [["gone", STAGE.midiGone], ["back", STAGE.midiBack]]) {
    midi.addEventListener(type, ({ detail: name }) => {
      if (stage.isOpen && uses(name)) stage.toast(fill(text, { name }), { plain: type === "back" });
    });
  }
  return midi;
}

/** Sends a key to the page, as if it had been pressed. */
function sendKey(type, key) {
  document.dispatchEvent(new KeyboardEvent(type, { key, bubbles: true, cancelable: true }));
}

/** Events: `state`, and `gone` and `back` with the name of a device whose cable was pulled or plugged in. */
export class MidiPedals extends EventTarget {
  #navigator;
  #send;
  #access = null;
  #state = "off";
  /** Inputs that are listened to, by id. */
  #inputs = new Map();
  /** Names of the inputs that another program has. */
  #busy = new Map();
  /** Names of devices that were unplugged. */
  #gone = new Set();
  /** Last values of controllers, and keys that are held, by key. */
  #values = new Map();
  #held = new Map();

  constructor({ navigator = globalThis.navigator, send = sendKey } = {}) {
    super();
    this.#navigator = navigator;
    this.#send = send;
  }

  /** `off`, `asking` (the browser asks), `on`, `denied` by the musician or the browser, or `failed`. */
  get state() {
    return this.#state;
  }

  /** Names of the devices that are heard. */
  get names() {
    return [...this.#inputs.values()].map(({ name }) => name || STAGE.midiNameless);
  }

  /** Names of the devices that another program has. */
  get busy() {
    return [...this.#busy.values()];
  }

  /** Asks for MIDI. Call it from a press: the browser asks the musician. */
  async open() {
    if (this.#access || this.#state === "asking") return;
    this.#become("asking");
    try {
      this.#access = await this.#navigator.requestMIDIAccess();
    } catch (error) {
      this.#become(["SecurityError", "NotAllowedError"].includes(error?.name) ? "denied" : "failed");
      return;
    }
    this.#access.onstatechange = () => this.#look();
    this.#state = "on";
    this.#look();
  }

  /** Opens MIDI again if the browser does not ask for it: after a reload, without a press. */
  async reopen() {
    const { permissions } = this.#navigator;
    const answer = await permissions?.query?.({ name: "midi" })?.catch(() => null);
    if (answer?.state === "granted") await this.open();
  }

  /** Listens to all devices that are there. */
  #look() {
    const here = new Map([...this.#access.inputs.values()].filter(({ state }) => state !== "disconnected").map((input) => [input.id, input]));
    for (const [id, input] of this.#inputs) if (!here.has(id)) this.#lose(id, input);
    for (const id of this.#busy.keys()) if (!here.has(id)) this.#busy.delete(id);
    for (const [id, input] of here) if (this.#inputs.get(id) !== input && !this.#busy.has(id)) this.#hear(id, input);
    this.#become("on");
  }

  #hear(id, input) {
    this.#inputs.set(id, input);
    input.onmidimessage = ({ data }) => this.#message(id, input, data);
    // On some systems one program alone can have a device.
    input.open?.()?.catch?.(() => {
      if (this.#inputs.get(id) !== input) return;
      this.#inputs.delete(id);
      this.#busy.set(id, input.name || STAGE.midiNameless);
      this.#become("on");
    });
    if (this.#gone.delete(input.name)) this.#tell("back", input.name);
  }

  #lose(id, input) {
    input.onmidimessage = null;
    this.#inputs.delete(id);
    // What was held when the cable was pulled is not held any more.
    for (const [key, of] of this.#held) if (of === id) this.#release(key);
    for (const key of this.#values.keys()) if (key.endsWith(`:${input.name}`)) this.#values.delete(key);
    this.#gone.add(input.name);
    this.#tell("gone", input.name);
  }

  #message(id, input, data) {
    const [status = 0, number = 0, value = 0] = data ?? [];
    const kind = status >> 4;
    const keyOf = (name) => `midi:${name}:${number}:${(status & 15) + 1}:${input.name}`;
    if (kind === NOTE_ON && value > 0) this.#press(id, keyOf("note"));
    else if (kind === NOTE_ON || kind === NOTE_OFF) this.#release(keyOf("note"));
    else if (kind === CONTROLLER && number < CHANNEL_MODES) this.#turn(id, keyOf("controller"), value);
    else if (kind === PROGRAM) {
      this.#press(id, keyOf("program"));
      this.#release(keyOf("program"));
    }
  }

  /** A controller: pressed when it passes the middle. One that never says it was released sends the same value again. */
  #turn(id, key, value) {
    const last = this.#values.get(key) ?? 0;
    this.#values.set(key, value);
    if (value < HALF) this.#release(key);
    else if (last < HALF || last === value) this.#press(id, key);
  }

  #press(id, key) {
    this.#release(key);
    this.#held.set(key, id);
    this.#send("keydown", key);
  }

  #release(key) {
    if (this.#held.delete(key)) this.#send("keyup", key);
  }

  #become(state) {
    this.#state = state;
    this.dispatchEvent(new Event("state"));
  }

  #tell(type, detail) {
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }
}
