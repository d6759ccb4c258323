// Promises of socket.io-client to its users, against `tools examine client-tests`, which serves the
// events that the client's own test suite expects.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io, Manager } from "socket.io-client";
import { startExamine } from "../support/examine.js";
import { within } from "../support/wait.js";

let server;
before(async () => (server = await startExamine("client-tests", "--ping-interval", "2000", "--recovery", "120000")));
after(() => server.stop());

const receive = (emitter, event) =>
  within(10_000, new Promise((done) => emitter.once(event, (...all) => done(all))), `${event} is received`);

function connect(namespace = "/", options = {}) {
  const socket = io(server.url + namespace, { forceNew: true, reconnectionDelay: 10, ...options });
  server.owns(() => socket.disconnect());
  return socket;
}

const ask = (socket, ...event) => within(10_000, socket.emitWithAck(...event), `${event[0]} is acknowledged`);

/** Collects the events of this name that a socket receives from now on. */
function collect(socket, event) {
  const all = [];
  socket.on(event, (...values) => all.push(values));
  return all;
}

for (const transports of [["polling", "websocket"], ["polling"], ["websocket"]]) {
  describe(transports.join(" and "), () => {
    const open = (namespace, options) => connect(namespace, { transports, ...options });

    test("a socket knows its id, which is not the connection's, in each namespace", async () => {
      for (const namespace of ["/", "/foo"]) {
        const socket = open(namespace);
        assert.equal(await ask(socket, "getId"), socket.id);
        assert.notEqual(socket.id, socket.io.engine.id);
      }
    });

    test("events emitted before the connection is open arrive in order", async () => {
      const socket = open();
      const answers = await Promise.all([1, "two", null, { three: [3] }].map((value) => ask(socket, "echo", value)));
      assert.deepEqual(answers, [1, "two", null, { three: [3] }]);
    });

    test("the server asks, and receives the acknowledgement", async () => {
      const socket = open();
      const right = receive(socket, "got it");
      const others = collect(socket, "got it");
      const answers = [[6, { test: true }], [5, { test: false }], [5], [5, { test: true }]];
      const asked = new Promise((done) => {
        socket.on("ack", (answer) => {
          answer(...answers.shift());
          if (answers.length === 0) done();
        });
      });
      for (let i = 0; i < 4; i += 1) socket.emit("ack");
      await Promise.all([within(10_000, asked, "the server has sent all calls"), right]);
      await ask(socket, "echo");
      assert.equal(others.length, 1, "the other answers were wrong");
      for (const [id, answer] of [[3, [5, { test: true }]], [99, [5, { test: true }]]]) {
        socket.packet({ type: 3, id, data: answer });
      }
      await ask(socket, "echo");
      assert.equal(others.length, 1, "each call is answered once, and unknown ids are ignored");
    });

    test("dates arrive as texts, false as false, and texts of any alphabet unchanged", async () => {
      const socket = open();
      assert.ok(Date.parse(await ask(socket, "getAckDate", {})) > 0);
      const dates = Promise.all(["takeDate", "takeDateObj", "false"].map((event) => receive(socket, event)));
      const texts = collect(socket, "takeUtf8");
      for (const event of ["getDate", "getDateObj", "false", "getUtf8"]) socket.emit(event);
      const [[date], [{ date: inside }], [no]] = await dates;
      assert.deepEqual([typeof date, typeof inside, no], ["string", "string", false]);
      await ask(socket, "echo");
      assert.equal(texts.length, 5);
      assert.deepEqual([texts[0][0], texts[3][0]], ["てすと", "utf8 — string"]);
    });

    test("bytes travel both ways, alone and within objects, in order with other events", async () => {
      const socket = open();
      const bytes = Buffer.from([1, 2, 3, 0xff]);
      const given = receive(socket, "doge");
      socket.emit("doge");
      assert.equal(Buffer.from((await given)[0]).toString(), "asdfasdf");
      assert.deepEqual(await ask(socket, "echo", { deep: [bytes] }), { deep: [bytes] });
      for (const [event, value, answer] of [
        ["buffa", bytes, "buffack"],
        ["jsonbuff", { hello: "lol", message: bytes, goodbye: "gotcha" }, "jsonbuff-ack"],
      ]) {
        const received = receive(socket, answer);
        socket.emit(event, value);
        await received;
      }
      const early = collect(socket, "abuff2-ack");
      socket.emit("abuff2", "too early");
      await ask(socket, "echo");
      assert.equal(early.length, 0, "the bytes have not arrived yet");
      const received = receive(socket, "abuff2-ack");
      socket.emit("abuff1", bytes);
      socket.emit("abuff2", "behind the bytes");
      await received;
    });

    test("the server sees query and auth, decoded", async () => {
      const main = open("/?c=d", { query: undefined, auth: { token: "é" } });
      const { query, auth } = await ask(main, "getHandshake");
      assert.deepEqual([query.c, query.EIO, auth], ["d", "4", { token: "é" }]);
      const given = open("/abc", { query: { "&a": "&=?a", space: "a b+c" }, auth: (give) => give({ e: "f" }) });
      const [handshake] = await receive(given, "handshake");
      assert.deepEqual([handshake.query["&a"], handshake.query.space], ["&=?a", "a b+c"]);
      assert.deepEqual([handshake.auth, handshake.query.e], [{ e: "f" }, undefined]);
    });

    test("a rejected client receives the reason and does not try again", async () => {
      for (const [namespace, options, why] of [
        ["/no", {}, "Auth failed (custom namespace)"],
        ["/", { query: { fail: true } }, "Auth failed (main namespace)"],
        ["/nowhere", {}, "Invalid namespace"],
      ]) {
        const socket = open(namespace, options);
        const [error] = await receive(socket, "connect_error");
        assert.equal(error.message, why);
        assert.deepEqual([socket.active, socket.connected], [false, false]);
      }
    });

    test("a lost connection gets a new socket if it has received no event, and else recovers the same", async () => {
      const socket = open();
      await receive(socket, "connect");
      const first = socket.id;
      socket.io.engine.close();
      await receive(socket, "connect");
      assert.deepEqual([socket.recovered, socket.id === first], [false, false]);
      const received = receive(socket, "hi");
      socket.emit("hi");
      await received;
      const second = socket.id;
      socket.io.engine.close();
      await receive(socket, "connect");
      assert.deepEqual([socket.recovered, socket.id], [true, second]);
      assert.equal(await ask(socket, "echo", "still there"), "still there");
    });

    test("a closed socket can be opened again, and then sends the events emitted meanwhile", async () => {
      const socket = open();
      await receive(socket, "connect");
      socket.disconnect();
      assert.equal(socket.id, undefined);
      const answer = ask(socket, "echo", "meanwhile");
      socket.connect();
      assert.equal(await answer, "meanwhile");
    });

    test("namespaces share a connection, and leaving one does not affect the others", async () => {
      const manager = new Manager(server.url, { transports });
      server.owns(() => manager._close());
      const [foo, asd] = [manager.socket("/foo"), manager.socket("/asd")];
      await Promise.all([receive(foo, "connect"), receive(asd, "connect")]);
      foo.disconnect();
      const valid = manager.socket("/valid");
      await receive(valid, "connect");
      assert.ok(asd.connected);
      foo.connect();
      await receive(foo, "connect");
      assert.equal(await ask(foo, "getId"), foo.id);
    });

    test("an event that is not acknowledged times out, or is retried as often as configured", async () => {
      const socket = open();
      await assert.rejects(socket.timeout(50).emitWithAck("nobody knows this"));
      const stubborn = open("/", { retries: 3, ackTimeout: 50 });
      let count = 0;
      const often = new Promise((done) => stubborn.on("ack", () => (count += 1) === 4 && done()));
      await assert.rejects(stubborn.emitWithAck("ack"));
      await within(10_000, often, "the event is sent four times");
    });

    test("a client with a timeout of 0 ms never connects", async () => {
      const socket = open("/", { timeout: 0, reconnection: false });
      const connected = collect(socket, "connect");
      assert.equal((await receive(socket, "connect_error"))[0].message, "timeout");
      const patient = open();
      await receive(patient, "connect");
      assert.equal(connected.length, 0);
    });
  });
}
