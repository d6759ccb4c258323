// MIDI pedals, with devices that do what real ones do only by chance: cables that are pulled, other programs, refusals.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MidiPedals, nameOfSignal } from "../../../src/web/stage/midi.js";

/** A device. `opens` says whether no other program has it. */
class Input {
  state = "connected";
  onmidimessage = null;

  constructor(id, name, { opens = true } = {}) {
    Object.assign(this, { id, name, opens });
  }

  async open() {
    if (!this.opens) throw Object.assign(new Error("in use"), { name: "InvalidAccessError" });
    return this;
  }

  sends(...data) {
    this.onmidimessage?.({ data: Uint8Array.from(data) });
  }
}

/** A MIDIAccess whose cables can be pulled. */
class Access {
  inputs = new Map();
  onstatechange = null;

  constructor(...inputs) {
    for (const input of inputs) this.inputs.set(input.id, input);
  }

  plug(input) {
    input.state = "connected";
    this.inputs.set(input.id, input);
    this.onstatechange?.({ port: input });
  }

  pull(input, { keeps = true } = {}) {
    input.state = "disconnected";
    if (!keeps) this.inputs.delete(input.id);
    this.onstatechange?.({ port: input });
  }
}

/** Pedals of a browser with these devices, and the keys that the page gets. */
async function opened(...inputs) {
  const access = new Access(...inputs);
  const keys = [];
  const told = [];
  const pedals = new MidiPedals({ navigator: { requestMIDIAccess: async () => access }, send: (type, key) => keys.push(`${type === "keydown" ? "+" : "-"}${key}`) });
  for (const type of ["gone", "back"]) pedals.addEventListener(type, ({ detail }) => told.push(`${type} ${detail}`));
  await pedals.open();
  await turn();
  return { access, keys, told, pedals };
}

const turn = () => new Promise((done) => setImmediate(done));

describe("messages", () => {
  test("a note is a key that is pressed and released", async () => {
    const pedal = new Input("1", "FCB1010");
    const { keys } = await opened(pedal);
    pedal.sends(0x9f, 60, 100);
    pedal.sends(0x8f, 60, 0);
    pedal.sends(0x9f, 60, 1);
    pedal.sends(0x9f, 60, 0);
    const key = "midi:note:60:16:FCB1010";
    assert.deepEqual(keys, [`+${key}`, `-${key}`, `+${key}`, `-${key}`]);
    assert.equal(nameOfSignal(key), "note 60, channel 16 (FCB1010)");
  });

  test("notes of other channels and devices are other keys", async () => {
    const [pedal, piano] = [new Input("1", "Pedal: left"), new Input("2", "Piano")];
    const { keys } = await opened(pedal, piano);
    pedal.sends(0x90, 60, 1);
    pedal.sends(0x91, 60, 1);
    piano.sends(0x90, 60, 1);
    assert.equal(new Set(keys).size, 3);
    assert.equal(nameOfSignal(keys[0].slice(1)), "note 60, channel 1 (Pedal: left)");
  });

  test("a controller is pressed when it passes the middle, and a sweep presses once", async () => {
    const pedal = new Input("1", "P");
    const { keys } = await opened(pedal);
    for (const value of [0, 30, 63, 64, 90, 127, 100, 64, 63, 0]) pedal.sends(0xb0, 64, value);
    assert.deepEqual(keys, ["+midi:controller:64:1:P", "-midi:controller:64:1:P"]);
  });

  test("a controller that never says that it was released is pressed each time", async () => {
    const pedal = new Input("1", "P");
    const { keys } = await opened(pedal);
    for (let i = 0; i < 3; i += 1) pedal.sends(0xb3, 20, 127);
    assert.deepEqual(keys.filter((key) => key.startsWith("+")), Array(3).fill("+midi:controller:20:4:P"));
  });

  test("a program change is pressed and released at once", async () => {
    const pedal = new Input("1", "P");
    const { keys } = await opened(pedal);
    pedal.sends(0xc0, 5);
    assert.deepEqual(keys, ["+midi:program:5:1:P", "-midi:program:5:1:P"]);
    assert.equal(nameOfSignal("midi:program:5:1:P"), "program 5, channel 1 (P)");
  });

  test("clocks, bends, pressure, channel modes and broken messages are no keys", async () => {
    const pedal = new Input("1", "P");
    const { keys } = await opened(pedal);
    for (const data of [[0xf8], [0xfe], [0xf0, 1, 2, 0xf7], [0xe0, 0, 64], [0xd0, 90], [0xa0, 60, 90], [0xb0, 123, 127], [60, 100], []]) pedal.sends(...data);
    pedal.onmidimessage({});
    assert.deepEqual(keys, []);
  });
});

describe("cables and refusals", () => {
  test("a pedal that is pulled while it is held is released, and works again when it is back", async () => {
    const pedal = new Input("1", "P");
    const { access, keys, told, pedals } = await opened(pedal);
    pedal.sends(0xb0, 64, 127);
    access.pull(pedal);
    assert.deepEqual(keys, ["+midi:controller:64:1:P", "-midi:controller:64:1:P"]);
    assert.deepEqual([told, pedals.names, pedals.state], [["gone P"], [], "on"]);
    pedal.sends(0xb0, 64, 127);
    assert.equal(keys.length, 2, "it is not heard any more");
    access.plug(pedal);
    pedal.sends(0xb0, 64, 127);
    assert.deepEqual([told, keys.length, pedals.names], [["gone P", "back P"], 3, ["P"]]);
  });

  test("a device that comes back as another object is heard, and once", async () => {
    const pedal = new Input("1", "P");
    const { access, keys, told } = await opened(pedal);
    access.pull(pedal, { keeps: false });
    const again = new Input("2", "P");
    access.plug(again);
    access.plug(again);
    again.sends(0x90, 1, 1);
    pedal.sends(0x90, 1, 1);
    assert.deepEqual([keys, told], [["+midi:note:1:1:P"], ["gone P", "back P"]]);
  });

  test("a device that is plugged in later is found", async () => {
    const { access, keys, pedals, told } = await opened();
    assert.deepEqual([pedals.state, pedals.names], ["on", []]);
    const pedal = new Input("1", "P");
    access.plug(pedal);
    pedal.sends(0x90, 1, 1);
    assert.deepEqual([keys.length, pedals.names, told], [1, ["P"], []]);
  });

  test("a device that another program has is named, and others are heard", async () => {
    const [taken, pedal] = [new Input("1", "Taken", { opens: false }), new Input("2", "P")];
    const { access, keys, pedals } = await opened(taken, pedal);
    assert.deepEqual([pedals.busy, pedals.names], [["Taken"], ["P"]]);
    pedal.sends(0x90, 1, 1);
    assert.equal(keys.length, 1);
    access.pull(taken);
    taken.opens = true;
    access.plug(taken);
    await turn();
    assert.deepEqual([pedals.busy, pedals.names.length], [[], 2]);
  });

  for (const [name, state] of [["SecurityError", "denied"], ["NotAllowedError", "denied"], ["NotSupportedError", "failed"], ["InvalidStateError", "failed"]]) {
    test(`a request that fails with ${name} is ${state}, and may be made again`, async () => {
      let asked = 0;
      const access = new Access();
      const requestMIDIAccess = async () => {
        asked += 1;
        if (asked === 1) throw Object.assign(new Error("no"), { name });
        return access;
      };
      const pedals = new MidiPedals({ navigator: { requestMIDIAccess }, send: () => {} });
      await pedals.open();
      assert.equal(pedals.state, state);
      await pedals.open();
      assert.deepEqual([pedals.state, asked], ["on", 2]);
      await pedals.open();
      assert.equal(asked, 2, "it is open");
    });
  }

  test("after a reload it is opened only if the browser does not ask", async () => {
    for (const [permission, state] of [["granted", "on"], ["prompt", "off"], ["denied", "off"]]) {
      const navigator = { requestMIDIAccess: async () => new Access(), permissions: { query: async () => ({ state: permission }) } };
      const pedals = new MidiPedals({ navigator, send: () => {} });
      await pedals.reopen();
      assert.equal(pedals.state, state, permission);
    }
    const unknown = { requestMIDIAccess: async () => new Access(), permissions: { query: async () => Promise.reject(new TypeError("midi")) } };
    for (const navigator of [unknown, { requestMIDIAccess: unknown.requestMIDIAccess }]) {
      const pedals = new MidiPedals({ navigator, send: () => {} });
      await pedals.reopen();
      assert.equal(pedals.state, "off");
    }
  });

  test("two presses of the button ask once", async () => {
    let asked = 0;
    const navigator = { requestMIDIAccess: () => ((asked += 1), new Promise(() => {})) };
    const pedals = new MidiPedals({ navigator, send: () => {} });
    pedals.open();
    pedals.open();
    assert.deepEqual([asked, pedals.state], [1, "asking"]);
  });
});
