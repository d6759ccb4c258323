// The unmodified bundle of socket.io-client in a page, with default options and with each
// transport.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser } from "../support/browser.js";
import { emit, freshSession, join, next } from "../support/client.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";

const BUNDLE = fileURLToPath(new URL("../node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));

let server;
let browser;
before(async () => {
  server = await startServer({ env: { SHARDS: "4" } });
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  await server.stop();
});

for (const [name, transports, ends] of [
  ["default options", undefined, "websocket"],
  ["long-polling alone", ["polling"], "polling"],
  ["a WebSocket alone", ["websocket"], "websocket"],
]) {
  test(`a page with ${name} plays along`, async () => {
    const sessionId = freshSession("stock");
    const leader = await join(server, sessionId, { role: "leader" });
    const songs = [{ id: "1", title: "One", format: "text", body: "la la li é🎸\n".repeat(2_000) }];
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { title: "Tonight", songs } }));
    // The page's own policy permits no script but the server's.
    const context = await browser.newContext({ bypassCSP: true });
    const page = await context.newPage();
    await page.goto(`${server.url}/health`);
    await page.addScriptTag({ path: BUNDLE });
    const chat = next(leader, "chat_message");
    const seen = await page.evaluate(
      async ({ sessionId, transports }) => {
        const socket = window.io(transports ? { transports } : {});
        window.socket = socket;
        const receive = (event) => new Promise((done) => socket.once(event, done));
        await receive("connect");
        const snapshot = receive("snapshot");
        const joined = await socket.emitWithAck("join_session", { sessionId, displayName: "É🎸", role: "follower" });
        const song = await socket.emitWithAck("get_song", { sessionId, songId: "1" });
        if (socket.io.engine.transport.name === "polling" && !transports) {
          await new Promise((done) => socket.io.engine.once("upgrade", done));
        }
        const sent = await socket.emitWithAck("chat_message", { sessionId, message: "from a page 🎸" });
        const { members } = await snapshot;
        const { body } = song.song ?? song;
        return { joined, sent, members: members.length, body, transport: socket.io.engine.transport.name };
      },
      { sessionId, transports },
    );
    for (const ack of [seen.joined, seen.sent]) assertDone(ack);
    assert.deepEqual([seen.members, seen.body, seen.transport], [2, songs[0].body, ends]);
    assert.equal((await chat).message, "from a page 🎸");
    const ticked = page.evaluate(() => new Promise((done) => window.socket.once("scroll_tick", done)));
    assertDone(await emit(leader, "play", { sessionId }));
    assert.equal((await ticked).sessionId, sessionId);
    await context.close();
  });
}
