// permessage-deflate with common clients: members receive the same events in fewer bytes.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { band, emit, everyoneReceives, freshSession } from "../support/client.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

/** Joins a session by a WebSocket of the package `ws` with this offer of compression. */
async function member(sessionId, perMessageDeflate) {
  const url = `${server.url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;
  const socket = new WebSocket(url, { perMessageDeflate });
  server.owns(() => socket.terminate());
  const messages = [];
  socket.on("message", (data) => {
    const text = String(data);
    messages.push(text);
    if (text === "2") socket.send("3");
  });
  await once(socket, "open");
  const until = async (found) => {
    while (!messages.some(found)) await once(socket, "message");
    return messages.find(found);
  };
  socket.send("40");
  await until((text) => text.startsWith("40{"));
  socket.send(`421["join_session",${JSON.stringify({ sessionId })}]`);
  await until((text) => text.startsWith("431["));
  return { socket, until };
}

const SETLIST = {
  title: "Tonight",
  songs: ["1", "2", "3", "4"].map((id) => ({ id, title: "One", format: "text", body: "la la li la\n".repeat(5_000) })),
};

for (const offer of [
  true,
  { serverMaxWindowBits: 9 },
  { clientMaxWindowBits: 9 },
  { serverNoContextTakeover: true, clientNoContextTakeover: true },
]) {
  test(`a set list arrives compressed and unchanged with ${JSON.stringify(offer)}`, async () => {
    const sessionId = freshSession("deflate");
    const { socket, until } = await member(sessionId, offer);
    assert.match(socket.extensions, /^permessage-deflate/);
    const before = socket._socket.bytesRead;
    socket.send(`422["set_setlist",${JSON.stringify({ sessionId, setlist: SETLIST })}]`);
    const setlist = await until((text) => text.startsWith('42["setlist"'));
    assert.ok(setlist.includes(JSON.stringify(SETLIST.songs[0].body)));
    assert.ok(socket._socket.bytesRead - before < setlist.length / 20, "the set list is compressed");
    socket.close();
  });
}

test("a client that offers no compression receives none", async () => {
  const { socket } = await member(freshSession("deflate"), false);
  assert.equal(socket.extensions, "");
  socket.close();
});

test("members with and without compression receive the same", async () => {
  const { sessionId, leader, followers } = await band(server, 3);
  const plain = await member(sessionId, false);
  const all = [leader, ...followers];
  const received = everyoneReceives(all, "setlist", undefined, async () => {
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: SETLIST }));
  });
  for (const { setlist } of await received) assert.equal(setlist.songs[0].body, SETLIST.songs[0].body);
  await plain.until((text) => text.startsWith('42["setlist"'));
});
