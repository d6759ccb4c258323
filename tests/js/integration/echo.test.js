// `tools examine engine-echo` and `socket-echo`, through the unmodified clients and by raw packets.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import zlib from "node:zlib";
import { io } from "socket.io-client";
import io2 from "socket.io-client-2";
import WebSocket from "ws";
import { startExamine } from "../support/examine.js";
import { within } from "../support/wait.js";
import { head, request, tcp, upgradeHead } from "../support/wire.js";

const WAYS = { "a WebSocket": ["websocket"], "long-polling": ["polling"], "default options": ["polling", "websocket"] };
const soon = (promise, what) => within(10_000, promise, what);
const receive = (socket, event) => soon(new Promise((done) => socket.once(event, (...all) => done(all))), `receive ${event}`);

describe("engine-echo", () => {
  let server;
  before(async () => (server = await startExamine("engine-echo", "--eio3", "--compression", "true", "--threshold", "0")));
  after(() => server.stop());

  const path = (query) => `/engine.io/?transport=polling&${query}`;
  const get = (query) => request(server, "GET", path(query));
  const post = (query, body, type = "text/plain") =>
    request(server, "POST", path(query), { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }, body);

  test("packets of version 4 are echoed in order, bytes as text", async () => {
    const { sid } = JSON.parse((await get("EIO=4")).body.slice(1));
    assert.equal((await post(`EIO=4&sid=${sid}`, "4é🎸\x1ebAQIDBA==\x1e4")).body, "ok");
    assert.equal((await get(`EIO=4&sid=${sid}`)).body, "4é🎸\x1ebAQIDBA==\x1e4");
  });

  test("packets of version 3 are echoed, bytes as bytes for clients that accept them", async () => {
    for (const [option, kind, body] of [
      ["", "application/octet-stream", "\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04"],
      ["&b64=1", "text/plain; charset=UTF-8", "6:4hello10:b4AQIDBA=="],
    ]) {
      const opened = (await get(`EIO=3${option}`)).body;
      const { sid } = JSON.parse(opened.slice(opened.indexOf("{"), opened.indexOf("}") + 1));
      assert.equal((await post(`EIO=3&sid=${sid}`, "6:4hello10:b4AQIDBA==")).body, "ok");
      const connection = await tcp(server);
      connection.write(head(server, "GET", path(`EIO=3&sid=${sid}`), { Connection: "close" }));
      await connection.closed();
      const [front, ...rest] = connection.buffer.toString("latin1").split("\r\n\r\n");
      assert.ok(front.includes(`Content-Type: ${kind}`), front);
      assert.equal(rest.join("\r\n\r\n"), body);
    }
  });

  test("long answers are compressed for clients that accept that", async () => {
    const long = `4${"la la li ".repeat(1_000)}`;
    for (const [accept, unpack] of [["gzip, deflate", zlib.gunzipSync], ["deflate", zlib.inflateSync], ["br", (as) => as]]) {
      const { sid } = JSON.parse((await get("EIO=4")).body.slice(1));
      await post(`EIO=4&sid=${sid}`, long);
      const connection = await tcp(server);
      const headers = { Connection: "close", "Accept-Encoding": accept };
      connection.write(head(server, "GET", path(`EIO=4&sid=${sid}`), headers));
      await connection.closed();
      const end = connection.buffer.indexOf("\r\n\r\n") + 4;
      const packed = connection.buffer.subarray(end);
      assert.equal(unpack(packed).toString(), long);
      assert.equal(packed.length < 500, accept !== "br");
    }
  });

  test("a client with context takeover may compress even its probe", async () => {
    const { sid } = JSON.parse((await get("EIO=4")).body.slice(1));
    const url = `${server.url.replace("http", "ws")}/engine.io/?EIO=4&transport=websocket&sid=${sid}`;
    const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0 } });
    server.owns(() => socket.terminate());
    await receive(socket, "open");
    assert.match(socket.extensions, /^permessage-deflate$/);
    socket.send("2probe");
    assert.equal(String((await receive(socket, "message"))[0]), "3probe");
    socket.send("5");
    socket.send("4over there");
    assert.equal(String((await receive(socket, "message"))[0]), "4over there");
  });

  test("bytes of version 3 on a WebSocket begin with their type", async () => {
    for (const [option, sent, back] of [["", Buffer.from([4, 1, 2]), Buffer.from([4, 1, 2])], ["&b64=1", "b4AQI=", Buffer.from("b4AQI=")]]) {
      const url = `${server.url.replace("http", "ws")}/engine.io/?EIO=3&transport=websocket${option}`;
      const socket = new WebSocket(url, { perMessageDeflate: false });
      server.owns(() => socket.terminate());
      await receive(socket, "message");
      socket.send(sent);
      const [got, isBinary] = await receive(socket, "message");
      assert.deepEqual([Buffer.from(got), isBinary], [back, option === ""]);
    }
  });

  test("a client of version 3 pings: it receives a bare pong, also for a probe, and may not send pongs itself", async () => {
    const url = `${server.url.replace("http", "ws")}/engine.io/?EIO=3&transport=websocket`;
    const socket = new WebSocket(url, { perMessageDeflate: false });
    server.owns(() => socket.terminate());
    await receive(socket, "message");
    for (const ping of ["2", "2hello", "2probe"]) {
      socket.send(ping);
      assert.equal(String((await receive(socket, "message"))[0]), "3");
    }
    socket.send("3");
    assert.equal((await receive(socket, "close"))[0], 1005);
  });

  test("a body that is too large is rejected, and a binary body of version 4 ends the session", async () => {
    const { sid } = JSON.parse((await get("EIO=4")).body.slice(1));
    const headers = { "Content-Type": "text/plain", "Content-Length": "1000001", Connection: "close" };
    assert.equal((await request(server, "POST", path(`EIO=4&sid=${sid}`), headers)).status, 413);
    const ok = await post(`EIO=4&sid=${sid}`, "4still here");
    assert.deepEqual([ok.status, ok.headers["content-type"], ok.body], [200, "text/html", "ok"]);
    assert.equal((await post(`EIO=4&sid=${sid}`, "4x", "application/octet-stream")).status, 400);
    assert.deepEqual(JSON.parse((await get(`EIO=4&sid=${sid}`)).body), { code: 1, message: "Session ID unknown" });
  });

  test("the last value of a repeated parameter counts", async () => {
    const answer = await request(server, "GET", "/engine.io/?EIO=3&transport=pigeon&EIO=4&transport=polling");
    assert.equal(answer.body[0], "0");
  });

  test("a session of one version rejects requests of the other", async () => {
    const { sid } = JSON.parse((await get("EIO=4")).body.slice(1));
    assert.equal(JSON.parse((await get(`EIO=3&sid=${sid}`)).body).code, 3);
  });

  test("JSONP is rejected", async () => {
    const answer = await get("EIO=4&j=0");
    assert.deepEqual([answer.status, JSON.parse(answer.body).message], [400, "Transport unknown"]);
  });
});

describe("socket-echo", () => {
  let server;
  before(async () => (server = await startExamine("socket-echo", "--eio3", "--recovery", "120000", "--compression", "true")));
  after(() => server.stop());

  const connect = (client, namespace, options) => {
    const socket = client(server.url + namespace, { forceNew: true, reconnection: false, ...options });
    server.owns(() => socket.disconnect());
    return socket;
  };

  for (const [name, transports] of Object.entries(WAYS)) {
    test(`echoes to the usual client with ${name}: texts, bytes, acknowledgements, two namespaces`, async () => {
      for (const namespace of ["/", "/custom"]) {
        const socket = connect(io, namespace, { transports, auth: { token: "é" } });
        assert.deepEqual((await receive(socket, "auth"))[0], { token: "é" });
        const bytes = Buffer.from([1, 2, 3]);
        const large = Buffer.alloc(100_000, 7);
        for (const values of [[1, "2", { 3: [true] }], [], [{ a: bytes, b: [large] }, "x".repeat(5_000)]]) {
          const back = receive(socket, "message-back");
          socket.emit("message", ...values);
          assert.deepEqual((await back).slice(0, values.length), values);
          const acked = new Promise((done) => socket.emit("message-with-ack", ...values, (...all) => done(all)));
          assert.deepEqual(await soon(acked, "the acknowledgement"), values);
        }
        socket.disconnect();
      }
    });

    test(`echoes to version 2.5.0 with ${name}`, async () => {
      const socket = connect(io2, "", { transports });
      await receive(socket, "auth");
      const values = [1, { a: Buffer.from([1, 2, 3]) }, "é🎸"];
      const back = receive(socket, "message-back");
      socket.emit("message", ...values);
      assert.deepEqual(await back, values);
      const acked = new Promise((done) => socket.emit("message-with-ack", ...values, (...all) => done(all)));
      assert.deepEqual(await soon(acked, "the acknowledgement"), values);
      const custom = connect(io2, "/custom?k=v%26w&sp%20ace=a+b", { transports });
      assert.deepEqual((await receive(custom, "auth"))[0], { k: "v&w", "sp ace": "a b" });
    });
  }

  test("an unknown namespace is rejected, with its name as it was sent", async () => {
    const socket = connect(io, "/nope", { transports: ["websocket"] });
    assert.equal((await receive(socket, "connect_error"))[0].message, "Invalid namespace");
  });

  test("a client that recovers keeps its id, and receives what it missed once, bytes included", async () => {
    const socket = connect(io, "/", { transports: ["websocket"] });
    await receive(socket, "auth");
    const id = socket.id;
    const received = [];
    socket.on("message-back", (...all) => received.push(all[0]));
    const gone = receive(socket, "disconnect");
    // The connection breaks after the events are sent, and before their echoes are read.
    const { ws } = socket.io.engine.transport;
    ws.removeAllListeners("message");
    for (const listener of ["onmessage"]) ws[listener] = () => {};
    socket.emit("message", "lost");
    socket.emit("message", Buffer.from([9]));
    const answered = new Promise((done) => {
      let seen = 0;
      ws.on("message", () => (seen += 1) === 3 && done());
    });
    await soon(answered, "the unread echoes");
    ws.terminate();
    socket.io.engine.transport.onClose("test");
    await gone;
    socket.connect();
    await receive(socket, "connect");
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    assert.deepEqual(received, ["lost", Buffer.from([9])]);
    await receive(socket, "auth");
  });

  test("a client that disconnected on purpose gets a new id", async () => {
    const socket = connect(io, "/", { transports: ["websocket"] });
    await receive(socket, "auth");
    const id = socket.id;
    socket.disconnect();
    socket.connect();
    await receive(socket, "connect");
    assert.deepEqual([socket.recovered, socket.id === id], [false, false]);
  });

  test("a disconnect and a connect in one body are handled in their order", async () => {
    const path = "/socket.io/?EIO=4&transport=polling";
    const { sid } = JSON.parse((await request(server, "GET", path)).body.slice(1));
    const post = (body) => request(server, "POST", `${path}&sid=${sid}`, { "Content-Length": body.length }, body);
    const fetched = async () => (await request(server, "GET", `${path}&sid=${sid}`)).body.split("\x1e");
    await post("40");
    const [first] = await fetched();
    assert.equal((await post('41\x1e40{"again":true}')).status, 200);
    const [second, auth] = await fetched();
    assert.notEqual(JSON.parse(first.slice(2)).sid, JSON.parse(second.slice(2)).sid);
    assert.match(auth, /^42\["auth",\{"again":true\},"/);
  });

  test("two namespaces share a connection, and a broken rule in one ends both", async () => {
    const main = connect(io, "/", { transports: ["websocket"] });
    await receive(main, "connect");
    const custom = main.io.socket("/custom");
    await receive(custom.connect(), "connect");
    assert.notEqual(main.id, custom.id);
    const both = Promise.all([receive(main, "disconnect"), receive(custom, "disconnect")]);
    main.io.engine.write('42/custom,["disconnect"]');
    await both;
  });
});

test("the path must match up to its last slash, and version 3 must be enabled", async () => {
  const server = await startExamine("engine-echo");
  assert.equal((await request(server, "GET", "/engine.io?EIO=4&transport=polling")).status, 404);
  assert.equal((await request(server, "GET", "/socket.io/?EIO=4&transport=polling")).status, 404);
  for (const version of ["", "EIO=3&", "EIO=5&", "EIO=abc&"]) {
    const answer = await request(server, "GET", `/engine.io/?${version}transport=polling`);
    assert.deepEqual([answer.status, JSON.parse(answer.body).code], [400, 5], version);
    const connection = await tcp(server);
    connection.write(upgradeHead(server, {}, `/engine.io/?${version}transport=websocket`));
    const refused = await connection.readAnswer();
    assert.deepEqual([refused.status, refused.body], [400, "Unsupported protocol version"], "and no 101 before it");
  }
  await server.stop();
});

describe("a client that never connects to a namespace", () => {
  let server;
  before(async () => (server = await startExamine("socket-echo", "--connect-timeout", "400")));
  after(() => server.stop());

  const open = async () => {
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`);
    server.owns(() => socket.terminate());
    await receive(socket, "message");
    return socket;
  };

  test("is closed in time, even after a refusal; a client that was connected once is not", async () => {
    const [silent, refused, left] = await Promise.all([open(), open(), open()]);
    refused.send("40/nope");
    left.send("40");
    left.send("41");
    const closed = await Promise.all([receive(silent, "close"), receive(refused, "close")]);
    assert.deepEqual(closed.map(([code]) => code), [1005, 1005]);
    left.send('40/custom,{"back":1}');
    const seen = [];
    left.on("message", (data) => seen.push(String(data)));
    while (!seen.some((one) => one.startsWith("42/custom,"))) await receive(left, "message");
    assert.equal(left.readyState, WebSocket.OPEN);
  });
});
