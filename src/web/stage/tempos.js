// Later tempos of the chart. Tempo belongs to the performance, so the server does not know them: the leader's page arms
// the next one at its beat.

/** How often the page looks whether something is to be armed. */
const LOOK_MS = 500;
const AGAIN_MS = 2000;

export function mountTempos(stage) {
  const { band } = stage;
  /** Beats whose tempo the leader cancelled, until the song is begun again. */
  const cancelled = new Set();
  let askedAt = -Infinity;

  function look() {
    const here = stage.isOpen && stage.isLeader && stage.isOnline ? stage.now() : null;
    const map = stage.song?.map;
    if (!here?.playing || !map || stage.armed?.kind === "jump" || stage.armed?.kind === "song") return;
    const { loop } = stage;
    const next = map.tempos.find(({ beat }) => beat > Math.max(0, here.songBeat));
    if (!next || cancelled.has(next.beat) || (loop && next.beat >= loop.to)) return;
    const isArmed = stage.armedAll.some(({ kind, beat }) => kind === "tempo" && Math.abs(beat - next.beat) < 0.001);
    if (isArmed || Math.abs(here.beat.tempoBpm - next.bpm) < 0.001 || performance.now() - askedAt < AGAIN_MS) return;
    askedAt = performance.now();
    // It is armed again and again, so a rejection needs no text.
    stage.command(band.request("tempo_change", { tempo: next.bpm, atBeat: Math.round(next.beat) }), { quiet: true });
  }

  stage.addEventListener("cancelled", () => {
    for (const { kind, beat } of stage.armedAll) if (kind === "tempo" && stage.armed?.kind === "tempo") cancelled.add(beat);
  });
  stage.addEventListener("song", () => cancelled.clear());
  stage.addEventListener("frame", ({ detail: here }) => {
    if (here && !here.playing && here.songBeat <= 0) cancelled.clear();
  });
  setInterval(look, LOOK_MS);
}
