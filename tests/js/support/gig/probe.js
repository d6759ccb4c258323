// Reads in a page what it shows, together with the server time of the frame that drew it.
//
// A page draws at the start of a frame. A callback that was requested later runs after it in the same frame, so what it
// reads was drawn between the frame's time stamp and now. Both are given as server times by the page's own clock, and
// `skew` says how far that clock is from the computer's: all pages and the test run on one computer, so clocks of the
// server that agree have the same skew.

/** Runs in a page, once per load; it takes nothing from outside. */
export function installProbe() {
  if (window.probe) return;
  const find = (id, root = document) => root.querySelector(`[data-testid="${id}"]`);
  const text = (id) => find(id)?.textContent ?? null;
  const number = (value) => (value === undefined || value === null || value === "" ? null : Number(value));

  /** What the page shows in this frame, which began at `began`. */
  const read = (began) => {
    const band = window.bandsync;
    const beat = find("beat");
    const stage = find("stage");
    const line = document.querySelector('[data-testid="line"][aria-current]');
    const tempo = find("tempo");
    const shown = {
      song: text("song-title"),
      isPlaying: stage.dataset.playing === "true",
      songBeat: number(stage.dataset.beat),
      bar: number(find("bar")?.querySelector(".shown")?.textContent ?? text("bar")),
      bigBeat: number((beat?.querySelector(".shown") ?? beat)?.textContent),
      beat: number(beat?.dataset.beat),
      num: number(beat?.dataset.of),
      section: text("current-section"),
      line: line && { from: Number(line.dataset.from), to: Number(line.dataset.to) },
      key: text("key"),
      bpm: number(tempo?.dataset.bpm),
      cue: find("cue")?.hidden === false ? find("cue").querySelector("b").textContent : null,
    };
    const { epoch, version } = band.timeline ?? {};
    const ms = performance.now();
    const to = band.serverMicros();
    return { ...shown, epoch, version, status: band.status, to, from: to === null ? null : to - 1000 * Math.max(0, ms - began) };
  };

  const skew = () => {
    let best = null;
    for (let i = 0; i < 5; i += 1) {
      const before = Date.now();
      const micros = window.bandsync.serverMicros();
      const took = Date.now() - before;
      if (micros !== null && (best === null || took < best.took)) best = { took, ms: micros / 1000 - before };
    }
    return best?.ms ?? null;
  };

  const probe = {
    /** Resolves with one reading, in the next frame. */
    read: () => new Promise((done) => requestAnimationFrame((began) => done({ ...read(began), skew: skew() }))),
    frames: null,
    /** Reads every frame from now on. `more` names a function of `extras` that adds to each reading. */
    record(more) {
      probe.frames = [];
      const frame = (began) => {
        if (probe.frames === null) return;
        probe.frames.push({ ...read(began), ...(more && probe.extras[more]()) });
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    },
    /** Ends that, and returns the readings. */
    stop() {
      const { frames } = probe;
      probe.frames = null;
      return frames;
    },
    extras: {
      /** Where the top of each sounding line is, in pixels below the top of the song, and the height of the song. */
      anchor() {
        const song = document.getElementById("song");
        const box = song.getBoundingClientRect();
        const line = document.querySelector('[data-testid="line"][aria-current]');
        return { top: line ? line.getBoundingClientRect().top - box.top : null, height: box.height };
      },
    },
    shifts: [],
  };
  window.probe = probe;
  // Only Chromium observes layout shifts.
  if (PerformanceObserver.supportedEntryTypes.includes("layout-shift")) {
    new PerformanceObserver((list) => {
      for (const { value, hadRecentInput, startTime, sources } of list.getEntries()) {
        const box = ({ x, y, width, height }) => [x, y, width, height].map(Math.round).join(" ");
        const nodes = [...(sources ?? [])].map(({ node, previousRect, currentRect }) =>
          `${node?.nodeName}.${node?.className ?? ""} ${node?.textContent?.slice(0, 40) ?? ""} from ${box(previousRect)} to ${box(currentRect)}`);
        const place = [...document.querySelectorAll("#top, #dock")].map((el) => el.innerText.replace(/\s+/g, " ")).join(" / ");
        probe.shifts.push({ value, hadRecentInput, startTime, nodes, place, isPlaying: window.bandsync?.isPlaying ?? false });
      }
    }).observe({ type: "layout-shift" });
  }
}
