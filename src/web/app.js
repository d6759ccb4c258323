// The stage page: the door, the song, the transport and the members. Messages draw nothing: each frame asks the
// client for the position of the music.

import { BandSync } from "./bandsync.js";

const $ = (id) => document.getElementById(id);
const band = new BandSync();
window.bandsync = band;

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const LOST_AFTER_MS = 10_000;
const READ_AHEAD_MS = 6000;
const TAP_FORGET_MS = 2000;
/** A line begins this many beats early, so that a seek that rounds down still lands on it. */
const LINE_SLACK = 0.01;

/**
 * Texts for rejections about which the page knows more than the server. All others are shown in the server's words,
 * which have the figures: the limit, or the time to wait.
 */
const REASONS = {
  invalid_session_id: "That session name does not work. Use 1 to 128 plain characters.",
  session_not_found: "This session has ended.",
  not_member: "You are no longer in this session.",
  not_leader: "Only the leader can do that.",
  bad_passcode:
    "This session is protected by a passcode, which this page cannot send. Join with another app, or choose another session name.",
  replaced: "You joined from another device or tab. To go on here, join again.",
  draining: "The server is restarting. Back in a moment.",
  offline: "No connection.",
  timeout: "The server did not answer.",
};

const reason = (error) => REASONS[error.code] ?? sentence(error.message || "that did not work");

/** Makes a sentence of a message of the server, which begins with a small letter and has no full stop. */
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** Turns the song's marked-up text into lines with their beginnings, in beats from the top. */
class Song {
  lines = [];
  sections = [];
  beats = 0;

  constructor(root) {
    const perBar = Number(root.dataset.beats);
    for (const part of root.querySelectorAll("section")) {
      const heading = document.createElement("h3");
      const jump = document.createElement("button");
      jump.textContent = part.dataset.name;
      heading.append(jump);
      part.prepend(heading);
      const section = { name: part.dataset.name, from: this.beats, jump };
      this.sections.push(section);
      for (const el of part.querySelectorAll("p")) {
        const length = Number(el.dataset.bars) * perBar;
        const chords = chordLine(el);
        el.classList.add("line");
        el.dataset.testid = `line-${this.lines.length}`;
        this.lines.push({ el, chords, from: this.beats, length, section });
        this.beats += length;
      }
    }
  }

  lineAt(beats) {
    return this.lines.findLast((line) => line.from <= beats + LINE_SLACK) ?? this.lines[0];
  }
}

/** `[G]words go on` puts the chord above the first word, so that lines still wrap at any word. Returns the chords. */
function chordLine(el) {
  const parts = el.textContent.split(/\[([^\]]+)\]/);
  el.textContent = parts[0];
  const chords = [];
  for (let i = 1; i < parts.length; i += 2) {
    const [, word, rest] = /^(\S*)([^]*)$/.exec(parts[i + 1]);
    const pair = document.createElement("span");
    const chord = document.createElement("span");
    const letter = document.createElement("b");
    pair.className = "pair";
    chord.className = "chord";
    letter.textContent = parts[i];
    chord.append(letter);
    pair.append(chord, word);
    el.append(pair, rest);
    chords.push(chord);
  }
  return chords;
}

const song = new Song($("song"));

/** The position in the song in beats, at the present tempo. */
const songBeats = (positionMs, tempoBpm) => (positionMs * tempoBpm) / 60_000;

let attempt = 0;

async function enter(event) {
  event.preventDefault();
  const mine = (attempt += 1);
  const [name, sessionId] = [$("name").value.trim(), $("session").value.trim()];
  // A member that does not ask to lead follows, unless no member leads: the first member of a session leads.
  const role = event.submitter?.value === "leader" ? "leader" : undefined;
  if (!name || !sessionId) return problem(name ? "Give the session a name." : "Tell the band your name.");
  problem("");
  remember("name", name);
  band.leave();
  stayAwake();
  const slow = setTimeout(() => problem("The server does not answer yet. Still trying…"), 3000);
  try {
    await band.join({ name, sessionId, role });
    if (mine === attempt) openStage();
  } catch (error) {
    if (mine === attempt) problem(reason(error));
  } finally {
    clearTimeout(slow);
  }
  return undefined;
}

function problem(text) {
  $("join-error").textContent = text;
  $("join-error").hidden = text === "";
}

function openStage() {
  $("door").hidden = true;
  $("stage").hidden = false;
  problem("");
  measure();
  showMembers();
  showStatus();
  requestAnimationFrame(draw);
}

function closeStage(why = "") {
  attempt += 1;
  band.leave();
  metronome.stop();
  $("click").setAttribute("aria-pressed", "false");
  $("stage").hidden = true;
  $("door").hidden = false;
  problem(why);
}

function remember(key, value) {
  try {
    localStorage.setItem(`bandsync.${key}`, value);
  } catch {
    // A private window may refuse. Then the name must be typed again.
  }
}

function recall(key) {
  try {
    return localStorage.getItem(`bandsync.${key}`);
  } catch {
    return null;
  }
}

let shownLine = null;
let drawnTop = 0;
let handsOffUntil = 0;
let clockShownAt = -Infinity;

function draw(now) {
  if ($("stage").hidden) return;
  requestAnimationFrame(draw);
  const beat = band.beat();
  const position = band.position();
  if (beat !== null && position !== null) {
    drawReadout(beat, position);
    drawSong(songBeats(position, beat.tempoBpm), position < 0);
  }
  if (now - clockShownAt > 500) {
    clockShownAt = now;
    drawClock();
    showStatus();
  }
}

function drawReadout(beat, position) {
  const playing = band.isPlaying;
  write($("bar"), String(beat.bar));
  write($("beat"), `${beat.beat} / ${beat.num}`);
  write($("position"), clockTime(position));
  $("position").dataset.ms = Math.round(position);
  write($("tempo"), tempoText(wantedTempo ?? beat.tempoBpm));
  if ($("play").hidden !== playing) {
    $("play").hidden = playing;
    $("pause").hidden = !playing;
  }
  const dots = $("dots");
  while (dots.children.length < beat.num) dots.append(document.createElement("i"));
  while (dots.children.length > beat.num) dots.lastChild.remove();
  for (const [i, dot] of [...dots.children].entries()) {
    const lit = playing && i === beat.beat - 1;
    const glow = calm.matches ? 1 : 1 - 0.8 * beat.phase;
    dot.style.setProperty("--glow", lit ? glow.toFixed(2) : "0");
  }
}

function drawSong(beats, countingIn) {
  const line = song.lineAt(beats);
  const done = Math.min(1, Math.max(0, (beats - line.from) / line.length));
  if (line !== shownLine) {
    for (const chord of shownLine?.chords ?? []) chord.classList.remove("sounding");
    shownLine = line;
    for (const each of song.lines) {
      each.el.classList.toggle("current", each === line);
      each.el.classList.toggle("past", each.from < line.from);
      each.el.setAttribute("aria-current", each === line);
    }
    for (const section of song.sections) section.chip.setAttribute("aria-current", section === line.section);
    line.section.chip.scrollIntoView({ block: "nearest", inline: "center", behavior: calm.matches ? "auto" : "smooth" });
  }
  const over = beats >= song.beats;
  write($("section"), countingIn ? "Count-in" : over ? "End of the song" : line.section.name);
  line.el.style.setProperty("--done", done.toFixed(3));
  const sounding = over || countingIn ? -1 : Math.floor((beats + LINE_SLACK - line.from) / (line.length / line.chords.length));
  for (const [i, chord] of line.chords.entries()) chord.classList.toggle("sounding", i === sounding);
  follow(line, calm.matches ? 0 : done);
}

/** Keeps the current line in the upper third, and glides towards the next one while it is sung. */
function follow(line, done) {
  const scroller = $("scroller");
  if (performance.now() < handsOffUntil) return;
  $("now").hidden = true;
  const next = song.lines[song.lines.indexOf(line) + 1];
  const glide = next ? (next.top - line.top) * Math.max(0, (done - 0.5) * 2) : 0;
  const target = Math.max(0, line.top + glide - scroller.clientHeight * 0.3);
  const gap = target - drawnTop;
  drawnTop = calm.matches || Math.abs(gap) < 0.5 ? target : drawnTop + gap * 0.15;
  scroller.scrollTop = drawnTop;
}

/** Pauses the gliding while the reader scrolls. */
function handsOn() {
  handsOffUntil = performance.now() + READ_AHEAD_MS;
  $("now").hidden = false;
  const settle = () => {
    drawnTop = $("scroller").scrollTop;
  };
  requestAnimationFrame(settle);
}

function measure() {
  for (const line of song.lines) line.top = line.el.offsetTop;
}

function drawClock() {
  const { quality, bound } = band.clock;
  $("clock").dataset.quality = quality;
  write($("clock"), quality === "lost" ? "no clock" : `${quality} ±${bound < 10 ? bound.toFixed(1) : Math.round(bound)} ms`);
}

function write(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

function clockTime(ms) {
  const tenths = Math.floor(Math.abs(ms) / 100);
  const minutes = Math.floor(tenths / 600);
  const seconds = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${ms < 0 ? "−" : ""}${minutes}:${seconds}`;
}

const tempoText = (bpm) => (Number.isInteger(bpm) ? String(bpm) : bpm.toFixed(1));

function showMembers() {
  const list = $("members");
  list.textContent = "";
  const leaderFirst = [...band.members].sort((a, b) => (b.socketId === band.leaderId) - (a.socketId === band.leaderId));
  for (const member of leaderFirst) {
    const item = document.createElement("li");
    item.className = "member";
    item.dataset.testid = "member";
    item.classList.toggle("away", member.connected === false);
    if (member.socketId === band.leaderId) item.append(label("span", "leads", "crown"));
    item.append(label("bdi", nameOf(member), "who"));
    const notes = [member.instrument, member.socketId === band.id && "you", member.connected === false && "away", member.quality];
    const note = notes.filter(Boolean).join(", ");
    if (note) item.append(label("small", note));
    list.append(item);
  }
  const others = band.memberCount - band.members.length;
  if (others > 0) {
    const item = document.createElement("li");
    item.className = "member";
    item.append(label("small", `and ${others} more`));
    list.append(item);
  }
  write($("count"), band.memberCount > 0 ? String(band.memberCount) : "");
  $("alone").hidden = band.memberCount > 1;

  const { leader, isLeader } = band;
  $("lead-controls").hidden = !isLeader;
  $("follow-controls").hidden = isLeader;
  showLeadRequest();
  $("song").classList.toggle("leads", isLeader);
  for (const { chip, jump } of song.sections) chip.disabled = jump.disabled = !isLeader;
  const word = isLeader ? "You lead" : leader ? "Following" : "Nobody leads";
  for (const el of [$("role"), $("following")]) {
    el.textContent = "";
    if (isLeader || !leader) el.append(word);
    else el.append(label("span", `${word} `), label("bdi", nameOf(leader)));
  }
  $("role").append(label("span", ` in ${band.sessionId}`, "where"));
}

function label(tag, text, className = "") {
  const el = document.createElement(tag);
  el.textContent = text;
  if (className) el.className = className;
  return el;
}

const nameOf = (member) => member.displayName || "Somebody";

let awaySince = null;
let draining = false;

function showStatus() {
  const { status } = band;
  if (status === "online" || status === "closed") [awaySince, draining] = [null, false];
  else awaySince ??= performance.now();
  const banner = $("banner");
  banner.hidden = awaySince === null;
  if (banner.hidden) return;
  const lost = performance.now() - awaySince > LOST_AFTER_MS;
  const music = band.isPlaying ? "The music continues here. " : "";
  banner.dataset.state = lost ? "lost" : status;
  if (lost) write(banner, `Connection lost. ${music}Reconnecting…`);
  else if (draining) write(banner, REASONS.draining);
  else write(banner, status === "connecting" ? "Connecting…" : `${music}Reconnecting…`);
}

let toastTimer = null;

function toast(text, plain = false) {
  const el = $("toast");
  el.textContent = text;
  el.classList.toggle("plain", plain);
  el.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    el.hidden = true;
  }, 4000);
}

/** Sends a command, and shows a rejection. */
async function command(promise) {
  try {
    return await promise;
  } catch (error) {
    toast(reason(error));
    return null;
  }
}

function togglePlay() {
  command(band.isPlaying ? band.pause() : band.play());
}

/**
 * Jumps to a place in the song. While the music plays, it jumps at the next bar line, so that no player loses the
 * beat.
 */
function jumpTo(beats) {
  const beat = band.beat();
  if (!beat || !band.isLeader) return;
  handsOffUntil = 0;
  const atServerMs = band.nextBarAt();
  command(band.seek((beats * 60_000) / beat.tempoBpm, atServerMs === null ? {} : { atServerMs }));
}

function jumpBy(step, places) {
  const beat = band.beat();
  if (!beat) return;
  const here = songBeats(band.position(), beat.tempoBpm);
  const current = places.findLastIndex((place) => place.from <= here + LINE_SLACK);
  // The first press goes to the top of this part, as on any player.
  const begun = here - (places[current]?.from ?? 0) > 2;
  const target = places[Math.max(0, current + (step < 0 && begun ? 0 : step))];
  if (target) jumpTo(target.from);
}

let wantedTempo = null;
let tempoTimer = null;

/** Combines quick presses into one change. */
function wantTempo(bpm) {
  wantedTempo = Math.min(400, Math.max(1, Math.round(bpm * 10) / 10));
  clearTimeout(tempoTimer);
  tempoTimer = setTimeout(sendTempo, 200);
}

async function sendTempo() {
  const beat = band.beat();
  const tempo = wantedTempo;
  if (!beat) return;
  // Places in the song are positions at the present tempo, so the position must change with the tempo to stay on the
  // same word.
  const arrives = band.position() + (band.isPlaying ? (band.clock.roundTrip ?? 0) / 2 : 0);
  const sent = [band.setTempo(tempo)];
  if (arrives > 0) sent.push(band.seek((arrives * beat.tempoBpm) / tempo));
  await command(Promise.all(sent));
  if (wantedTempo === tempo) wantedTempo = null;
}

const nudgeTempo = (by) => wantTempo((wantedTempo ?? Math.round(band.beat()?.tempoBpm ?? 120)) + by);

let taps = [];

function tap() {
  const now = performance.now();
  if (now - (taps.at(-1) ?? 0) > TAP_FORGET_MS) taps = [];
  taps = [...taps.slice(-7), now];
  if (taps.length >= 4) wantTempo(Math.round((60_000 * (taps.length - 1)) / (taps.at(-1) - taps[0])));
}

async function takeLead() {
  const answer = await command(band.takeLead());
  if (answer?.pending) toast(`Asked ${band.leader ? nameOf(band.leader) : "the leader"} for the lead.`, true);
}

function onKey(event) {
  if ($("stage").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, button") && (event.key === " " || event.key === "Enter")) return;
  const keys = {
    " ": togglePlay,
    ArrowLeft: () => jumpBy(-1, song.lines),
    ArrowRight: () => jumpBy(1, song.lines),
    ArrowUp: () => nudgeTempo(1),
    ArrowDown: () => nudgeTempo(-1),
    PageUp: () => jumpBy(-1, song.sections),
    PageDown: () => jumpBy(1, song.sections),
    Home: () => command(band.stop()),
    t: tap,
  };
  const act = keys[event.key];
  if (!act) return;
  if (!band.isLeader) {
    if (event.key !== " ") handsOn();
    return;
  }
  event.preventDefault();
  act();
}

/** Beats on the audio clock, scheduled slightly ahead: timers are late, sample positions are not. */
class Metronome {
  #audio = null;
  #timer = null;
  #heardUntil = -Infinity;
  #ahead = [];

  get running() {
    return this.#timer !== null;
  }

  /** Must be called from a tap: until then, browsers keep audio locked. */
  async start() {
    this.#audio ??= new AudioContext({ latencyHint: "interactive" });
    await this.#audio.resume();
    this.#heardUntil = -Infinity;
    this.#timer ??= setInterval(() => this.#schedule(), 25);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.hush();
  }

  /** Cancels the scheduled beats, because the timeline has changed. */
  hush() {
    for (const { node } of this.#ahead) node.stop();
    this.#ahead = [];
    this.#heardUntil = -Infinity;
  }

  #schedule() {
    const server = band.clock.now();
    if (server === null) return;
    const audioNow = this.#audio.currentTime;
    this.#ahead = this.#ahead.filter((click) => click.at > audioNow);
    const from = Math.max(server, this.#heardUntil);
    const until = server + 150;
    for (const beat of band.beatsBetween(from, until)) {
      const at = this.#audioTime(performance.now() + beat.atServerMs - server);
      if (at > audioNow) this.#sound(at, beat.isDownbeat);
    }
    this.#heardUntil = Math.max(from, until);
  }

  /** The audio time that is heard at a `performance.now` time. */
  #audioTime(ms) {
    const { contextTime, performanceTime } = this.#audio.getOutputTimestamp?.() ?? {};
    if (performanceTime > 0) return contextTime + (ms - performanceTime) / 1000;
    return this.#audio.currentTime + (ms - performance.now()) / 1000 - (this.#audio.outputLatency ?? 0);
  }

  #sound(at, strong) {
    const tone = this.#audio.createOscillator();
    const gain = this.#audio.createGain();
    tone.frequency.value = strong ? 1760 : 1175;
    gain.gain.setValueAtTime(strong ? 0.7 : 0.45, at);
    gain.gain.exponentialRampToValueAtTime(0.001, at + 0.045);
    tone.connect(gain).connect(this.#audio.destination);
    tone.start(at);
    tone.stop(at + 0.05);
    this.#ahead.push({ node: tone, at });
  }
}

const metronome = new Metronome();

async function toggleClick() {
  const on = !metronome.running;
  if (on) await metronome.start();
  else metronome.stop();
  $("click").setAttribute("aria-pressed", String(on));
}

let wakeLock = null;
let wakeVideo = null;

async function stayAwake() {
  try {
    wakeLock = await navigator.wakeLock.request("screen");
  } catch {
    playSilently();
  }
}

/** Plays an empty video, which keeps most phones awake without the wake lock (that needs HTTPS). */
function playSilently() {
  if (wakeVideo || !HTMLCanvasElement.prototype.captureStream) return;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 2;
  const pen = canvas.getContext("2d");
  setInterval(() => pen.fillRect(0, 0, 2, 2), 1000);
  wakeVideo = document.createElement("video");
  wakeVideo.muted = true;
  wakeVideo.playsInline = true;
  wakeVideo.srcObject = canvas.captureStream(1);
  wakeVideo.play().catch(() => {
    wakeVideo = null;
  });
}

function onClick(id, act) {
  $(id).addEventListener("click", (event) => {
    // After a touch or a click the keyboard controls the stage again.
    if (event.detail > 0) $(id).blur();
    act();
  });
}

$("join").addEventListener("submit", enter);
onClick("leave", () => closeStage());
onClick("play", () => command(band.play()));
onClick("pause", () => command(band.pause()));
onClick("stop", () => command(band.stop()));
onClick("back", () => jumpBy(-1, song.sections));
onClick("forward", () => jumpBy(1, song.sections));
onClick("slower", () => nudgeTempo(-1));
onClick("faster", () => nudgeTempo(1));
onClick("take-lead", takeLead);
onClick("click", toggleClick);
onClick("now", () => {
  handsOffUntil = 0;
});
// A tap counts when the finger touches, not when it lifts.
$("tap").addEventListener("pointerdown", tap);
$("tap").addEventListener("keydown", (event) => {
  if (event.key === " " || event.key === "Enter") tap();
});

for (const [i, section] of song.sections.entries()) {
  section.chip = document.createElement("button");
  section.chip.textContent = section.name;
  section.chip.dataset.testid = `section-${i}`;
  for (const el of [section.chip, section.jump]) {
    el.addEventListener("click", () => {
      el.blur();
      jumpTo(section.from);
    });
  }
  $("sections").append(section.chip);
}
for (const line of song.lines) line.el.addEventListener("click", () => jumpTo(line.from));

for (const type of ["wheel", "touchmove"]) $("scroller").addEventListener(type, handsOn, { passive: true });
new ResizeObserver(measure).observe($("song"));
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !$("stage").hidden && (!wakeLock || wakeLock.released)) stayAwake();
});

band.addEventListener("change", () => {
  if (!$("stage").hidden) showMembers();
});
band.addEventListener("status", showStatus);
for (const event of ["refused", "replaced"]) {
  band.addEventListener(event, ({ detail }) => {
    if (!$("stage").hidden) closeStage(reason(detail));
  });
}
band.addEventListener("error", ({ detail }) => {
  if (detail?.code === "draining") draining = true;
  else if (detail?.code && detail.code !== "replaced") toast(reason(detail));
});
for (const event of ["play", "pause", "stop", "seek", "tempo_changed", "snapshot"]) {
  band.addEventListener(event, () => metronome.hush());
}

// A session that this page creates gets the rule that its leader is asked before another member takes the lead. An
// existing session keeps its rule.
band.addEventListener("snapshot", ({ detail }) => {
  const me = detail.members.find((member) => member.socketId === band.id);
  const madeIt = band.isLeader && detail.members.length === 1 && me?.joinedAt === detail.createdAt;
  if (madeIt && detail.settings.leaderRule === "open") command(band.request("update_settings", { leaderRule: "ask" }));
});

/** Members that request the lead, in order. The leader answers one after the other. */
let requesters = [];

function showLeadRequest() {
  const here = new Set(band.members.filter((member) => member.connected !== false).map((member) => member.socketId));
  // In a large session `members` lists only a part of the members.
  const gone = (requester) => band.memberCount <= band.members.length && !here.has(requester.id);
  requesters = band.isLeader ? requesters.filter((requester) => !gone(requester)) : [];
  $("lead-request").hidden = requesters.length === 0;
  if ($("lead-request").hidden) return;
  $("lead-request-text").textContent = "";
  $("lead-request-text").append(label("bdi", requesters[0].name), " asks for the lead.");
}

band.addEventListener("leader_handoff_request", ({ detail }) => {
  const requester = { id: detail.requesterId, name: detail.requesterInfo?.displayName || "Somebody" };
  requesters = [...requesters.filter((other) => other.id !== requester.id), requester];
  showLeadRequest();
});
for (const [id, event] of [["lead-request-yes", "approve_leader_request"], ["lead-request-no", "deny_leader_request"]]) {
  onClick(id, () => {
    const requester = requesters.shift();
    showLeadRequest();
    if (requester) command(band.request(event, { requesterId: requester.id }));
  });
}
band.addEventListener("leader_request_denied", () => toast("The leader keeps the lead.", true));

const asked = new URLSearchParams(location.search);
$("name").value = asked.get("name") ?? recall("name") ?? "";
$("session").value = asked.get("session") || "stage";
