// Compiled by types.test.js in strict mode: the library as a page would use it.

import { BandSync, BandSyncError, type Beat } from "../../../src/web/bandsync.js";

const band = new BandSync({ url: "http://127.0.0.1:3001", sessionId: "stage", name: "Ada", role: "leader" });
const patience = AbortSignal.timeout(2000);

band.addEventListener("snapshot", ({ detail }) => {
  const names: string[] = detail.members.map((member) => member.displayName);
  console.log(names, detail.settings.maxMembers, detail.song?.title);
});
band.addEventListener("status", ({ detail }) => console.log(detail === "online"));
band.addEventListener("refused", ({ detail }) => console.log(detail.code));
band.addEventListener("cue", ({ detail }) => console.log(detail.text.toUpperCase()));

const joined = await band.join({ signal: patience });
const id: string = joined.socketId;

try {
  await band.play({ countInBars: 2, signal: patience });
  await band.seek(61_500);
  await band.seekBeat(32, { at: "bar" });
  await band.loop(0, 8);
  await band.releaseLoop();
  await band.nudge(-4);
  await band.one();
  await band.selectSong("1", { play: true, atBeat: 64 });
  await band.setTempo(90, 4000);
  await band.setTimeSignature(6, 8);
  await band.updateSettings({ leaderRule: "ask", passcode: null });
  await band.request("select_song", { step: 1 });
} catch (error) {
  if (!(error instanceof BandSyncError)) throw error;
  if (error.code === "not_leader") await band.takeLead();
  else if (error.code === "timeout") console.log(error.retryAfter?.toFixed(0));
}

const song = await band.song("1");
const body: string | undefined = song.body;
const beat: Beat | null = band.beat();
console.log(id, body, beat?.bar, band.timeline?.segments[0]?.bpm0, band.clock.bound);

// @ts-expect-error: the session's id is added by the client, and a position is a number
await band.seek("61");
// @ts-expect-error: no such line
await band.seekBeat(4, { at: "verse" });
// @ts-expect-error: no such quantize
await band.play({ quantize: "half" });
// @ts-expect-error: no such event
await band.request("play_loud");
// @ts-expect-error: no such rule
await band.updateSettings({ leaderRule: "anyone" });
// @ts-expect-error: a field that this event does not have
await band.request("pause", { position: 4 });
// @ts-expect-error: no such code
console.log(new BandSyncError().code === "not_member_any_more");
