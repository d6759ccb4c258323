// The dashboard: requests the server's data once a second and shows it.
import { Plot, short } from "./dashboard-plot.js";
import { followSystem, make, reachScrollers } from "./operators.js";

const EVERY_MS = 1000;
const LIVE_POINTS = 180;
const HISTORY_EVERY_MS = 10_000;

const $ = (id) => document.getElementById(id);

followSystem();
const lookForScrollers = reachScrollers(".scroll, .events");

// Requests, with the token if one was given.

let token = sessionStorage.getItem("admin-token");

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (answer.status === 401 || answer.status === 403) throw new Refused(answer.status, (await answer.json()).hint);
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  return answer.json();
}

class Refused extends Error {
  constructor(status, hint) {
    super(hint ?? "This server requires its ADMIN_TOKEN.");
    this.status = status;
  }
}

function showGate(refused) {
  $("state").hidden = true;
  $("gate").hidden = false;
  $("gate-why").textContent = token && refused.status === 401 ? "Wrong token." : refused.message;
  setStatus("lost", "closed");
}

$("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("admin-token", token);
  $("token").value = "";
  $("gate").hidden = true;
  step();
});

// The plots: their values in a second of live data, and their columns of the history.

const ms = (spread, name) => (spread.count > 0 ? spread[name] : null);
const PLOTS = [
  {
    title: "Messages a second", unit: "", lines: ["out", "in"],
    live: ({ metrics: { performance } }) => [performance.messagesOutPerSecond, performance.messagesInPerSecond],
    columns: ["messagesOutPerSecond", "messagesInPerSecond"],
  },
  {
    title: "Round trip to members", unit: "ms", lines: ["p50", "p99"], target: true,
    live: ({ second }) => [ms(second.roundTrip, "p50"), ms(second.roundTrip, "p99")],
    columns: ["roundTripP50", "roundTripP99"], zeroIsNone: true,
  },
  {
    title: "Tick lateness", unit: "ms", lines: ["p50", "p99", "max"],
    live: ({ second }) => [ms(second.tickLateness, "p50"), ms(second.tickLateness, "p99"), ms(second.tickLateness, "max")],
    columns: ["tickLatenessP50", "tickLatenessP99", "tickLatenessMax"],
  },
  {
    title: "Time of a turn and of a handler", unit: "ms", lines: ["turn p99", "handler p99"],
    live: ({ second }) => [ms(second.turn, "p99"), ms(second.handler, "p99")],
    columns: ["turnP99", "handlerP99"],
  },
  {
    title: "CPU, of one core", unit: "%", lines: ["all", "busiest thread"], floor: 10,
    live: ({ metrics: { performance } }) => [performance.cpuPercent, performance.cpuBusiestThread],
    columns: ["cpuPercent"],
  },
  {
    title: "Memory", unit: "MB", lines: ["resident", "allocator"], floor: 20,
    live: ({ metrics: { performance } }) => [performance.memoryBytes / 1e6, performance.allocatorCommitted / 1e6],
    columns: ["memoryBytes"], scale: 1e-6,
  },
];

const plots = PLOTS.map((plan) => ({ plan, plot: new Plot($("plots"), plan), values: plan.lines.map(() => []) }));
let times = [];
let minutes = 0;
let historyAt = 0;

function remember(data) {
  times.push(Date.parse(data.metrics.timestamp));
  for (const one of plots) one.plan.live(data).forEach((value, i) => one.values[i].push(value));
  if (times.length > LIVE_POINTS) {
    times.shift();
    for (const one of plots) one.values.forEach((values) => values.shift());
  }
}

function showLive() {
  for (const { plot, values } of plots) plot.show(times, values);
}

async function showHistory() {
  if (Date.now() < historyAt) return;
  historyAt = Date.now() + HISTORY_EVERY_MS;
  const since = Date.now() - minutes * 60_000;
  const { fields, rows } = await ask(`/metrics/history?since=${since}&limit=2880`);
  const column = (name) => rows.map((row) => row[fields.indexOf(name)]);
  const at = column("timestamp");
  for (const { plan, plot } of plots) {
    const scaled = (value) => (value === 0 && plan.zeroIsNone ? null : value * (plan.scale ?? 1));
    const values = plan.lines.map((_, i) => (plan.columns[i] ? column(plan.columns[i]).map(scaled) : at.map(() => null)));
    plot.show(at, values);
  }
}

for (const button of document.querySelectorAll(".ranges button")) {
  button.addEventListener("click", () => {
    minutes = Number(button.dataset.minutes);
    historyAt = 0;
    for (const other of document.querySelectorAll(".ranges button")) other.setAttribute("aria-pressed", String(other === button));
    if (minutes === 0) showLive();
    else showHistory().catch(() => {});
  });
}

// The rest of the page.

function setStatus(status, word) {
  $("status").dataset.status = status;
  write("status-word", word);
}

/** Writes a text only if it is another one: screen readers read what is written there. */
function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function span(seconds) {
  const whole = Math.floor(seconds);
  const [days, hours, mins] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${mins} min`;
  return mins > 0 ? `${mins} min ${whole % 60} s` : `${whole} s`;
}

function tile(label, value, unit = "") {
  return make("div", "tile", make("dt", "", label), make("dd", "", value, unit ? make("small", "", unit) : null));
}

function showTop({ health, version }) {
  const count = health.reasons.length;
  setStatus(health.status, count === 0 ? health.status : `${health.status}: ${count} ${count === 1 ? "problem" : "problems"}`);
  $("uptime").textContent = `up ${span(health.uptime)}`;
  const { place, status } = health.storage;
  $("storage").textContent = `storage: ${place}, ${status}`;
  $("version").textContent = `v${version}`;
  document.title = health.status === "healthy" ? "BandSync dashboard" : `(${health.status}) BandSync dashboard`;
}

function showTiles({ health, metrics }) {
  const { performance, connections, sessions, percentiles } = metrics;
  const trip = percentiles.roundTrip;
  const late = percentiles.tickLateness;
  $("tiles").replaceChildren(
    tile("connections", short(connections.current), `peak ${short(connections.peak)}`),
    tile("sessions", short(sessions.active), `of ${short(sessions.total)}`),
    tile("members", short(sessions.members)),
    tile("messages out", short(performance.messagesOutPerSecond), "/s"),
    tile("messages in", short(performance.messagesInPerSecond), "/s"),
    tile("round trip p99", trip.count > 0 ? short(trip.p99) : "–", "ms"),
    tile("tick late p99", late.count > 0 ? short(late.p99) : "–", "ms"),
    tile("memory", short(health.memory.rss / 1e6), "MB"),
  );
}

const STATES = {
  healthy: ["Everything works", "No alert is raised. If one is, this place says what it means for the band, and what to do."],
  degraded: ["The band can play, but look into this", "Members may notice it, or will if it goes on."],
  unhealthy: ["The server does not do its work", "Bands cannot rely on it now."],
};

/** The parts of an alert's message: what is measured, what members notice, and what to do. */
function parts(message) {
  const colon = message.indexOf(": ");
  const [condition, advice] = colon < 0 ? [message, ""] : [message.slice(0, colon), message.slice(colon + 2)];
  const stop = advice.indexOf(". ");
  return stop < 0 ? [condition, advice, ""] : [condition, advice.slice(0, stop), advice.slice(stop + 2)];
}

const sentence = (text) => (text === "" ? "" : `${text[0].toUpperCase()}${text.slice(1).replace(/\.?$/, ".")}`);

/** One problem: a heading, what it means, and what to do. */
function problem(reason, { uptime, storage }) {
  const [condition, harm, remedy] = parts(reason.message);
  const figures = [
    reason.unit ? `now ${measured(reason.value, reason.unit)}, limit ${measured(reason.limit, reason.unit)}` : "",
    `for ${span(Math.max(0, uptime - reason.raisedAt))}`,
  ].filter(Boolean);
  const item = make(
    "li", "",
    make("h3", "", sentence(condition), " ", make("span", "", `(${figures.join(", ")})`)),
    harm ? make("p", "", sentence(harm)) : null,
    remedy ? make("p", "", make("span", "todo", "What to do: "), sentence(remedy)) : null,
    reason.name === "storage" && storage.reason ? make("p", "none", `The storage says: ${storage.reason}`) : null,
  );
  Object.assign(item.dataset, { severity: reason.severity, name: reason.name });
  return item;
}

function showAlerts({ health, events }) {
  const [title, text] = STATES[health.status] ?? STATES.degraded;
  $("verdict").dataset.status = health.status;
  write("verdict-title", title);
  write("verdict-text", text);
  $("alerts").replaceChildren(...health.reasons.map((reason) => problem(reason, health)));
  const line = (event) => {
    const when = make("time", "", new Date(event.timestamp).toLocaleTimeString([], { hour12: false }));
    const value = event.event === "raised" ? measured(event.value, event.unit) : "";
    return make("li", "", when, make("span", event.event, event.event), make("span", "", event.name), make("span", "none", value));
  };
  $("events").replaceChildren(...(events.length > 0 ? events.map(line) : [make("li", "none", "No alerts so far.")]));
}

const measured = (value, unit) => (unit ? `${short(value)} ${unit}` : short(value));

function row(...cells) {
  return make("tr", "", ...cells.map((cell) => make("td", "", ...(Array.isArray(cell) ? cell : [cell]))));
}

function load(percent) {
  const meter = make("meter");
  meter.setAttribute("aria-hidden", "true");
  Object.assign(meter, { min: 0, max: 100, low: 50, high: 80, optimum: 0, value: percent });
  return [meter, `${percent.toFixed(1)} %`];
}

function showShards({ metrics }) {
  const inMs = (spread) => (spread.count > 0 ? `${short(spread.p99)} ms` : "–");
  $("shards").replaceChildren(
    ...metrics.shards.map((shard, i) =>
      row(String(i), load(shard.busyPercent), String(shard.connections), String(shard.sessions), String(shard.members), inMs(shard.percentiles.turn), inMs(shard.percentiles.tickLateness)),
    ),
  );
  $("threads").replaceChildren(
    ...metrics.threads.slice(0, 12).map((thread) => row(thread.name, `${thread.userPercent.toFixed(1)} %`, `${thread.systemPercent.toFixed(1)} %`)),
  );
  $("queues").replaceChildren(
    ...metrics.queues.map(({ name, waiting, room }) => row(name, load((100 * waiting) / Math.max(1, room)), short(waiting), short(room))),
  );
  const refused = Object.entries(metrics.refusals).filter(([, count]) => count > 0);
  const often = (code) => (metrics.refusalsPerSecond[code] > 0 ? ` · ${short(metrics.refusalsPerSecond[code])}/s now` : "");
  $("refusals").replaceChildren(
    ...(refused.length > 0 ? refused.map(([code, count]) => make("span", "", `${code} `, make("b", "", short(count)), often(code))) : [make("p", "none", "None so far.")]),
  );
}

// An epoch modulo this is the number of the node that owns the session.
const NODES = 2048;

/** The name of the node that owns a session; empty without a cluster. */
const ownerOf = ({ epoch }, cluster) => cluster?.nodes?.find(({ number }) => number === epoch % NODES)?.name ?? "";

/** This node's part in its cluster, and all nodes. Hidden if the server belongs to none. */
function showCluster({ health: { cluster }, metrics }) {
  $("cluster").hidden = !cluster?.nodes;
  if ($("cluster").hidden) return;
  const counts = metrics.cluster ?? {};
  const fact = (count, label) => make("span", "", `${short(count ?? 0)} ${label}`);
  $("node-count").textContent = String(cluster.nodes.length);
  $("cluster-facts").replaceChildren(
    fact(cluster.owned, "sessions owned here"),
    fact(cluster.branches, "branches of others"),
    fact(counts.commits, "commits"),
    fact(counts.forwards, "forwards"),
    fact(counts.sessionsTakenOver, "takeovers"),
    fact(counts.gaps, "gaps"),
    fact(counts.unavailable, "unavailable"),
    fact(counts.published, "messages out"),
    fact(counts.heard, "messages in"),
    cluster.reason ? make("span", "", cluster.reason) : "",
  );
  const inMs = (micros) => (Number.isFinite(micros) ? `${short(micros / 1000)} ms` : "–");
  const state = (node) => (node.number === cluster.number ? `${cluster.standing}, this node` : node.draining ? "draining" : "lives");
  $("nodes").replaceChildren(
    ...cluster.nodes.map((node) =>
      row(node.name, String(node.number), state(node), node.version, `${short(node.seenMs / 1000)} s ago`, inMs(node.clockUs), inMs(node.boundUs)),
    ),
  );
}

function member(one) {
  const dot = make("span", "quality");
  dot.dataset.quality = one.connected ? one.quality : "unknown";
  dot.title = one.quality;
  const latency = one.latencyMicros === null ? "" : `${short(one.latencyMicros / 1000)} ms`;
  const lost = one.timeouts > 0 ? ` · ${one.timeouts} lost` : "";
  return make(
    "li", "member", dot, make("span", "name", one.displayName),
    one.role === "leader" ? make("span", "role", "leads") : null,
    one.connected ? null : make("span", "away", "away"),
    make("span", "latency", `${latency}${lost}`),
  );
}

function session(one, cluster) {
  const owner = ownerOf(one, cluster);
  const place = `${Math.floor(one.positionMicros / 60e6)}:${String(Math.floor(one.positionMicros / 1e6) % 60).padStart(2, "0")}`;
  const state = one.isPlaying ? make("span", "playing", "▶ ", place) : make("span", "none", "❚❚ ", place);
  const facts = make("small", "", `${short(one.tempoMilliBpm / 1000)} BPM · ${one.connectedCount}/${one.memberCount}`);
  const more = one.memberCount - one.members.length;
  return make(
    "article", "session", make("h3", "", make("span", "title", one.sessionId), state, facts),
    make("ul", "", ...one.members.map(member), more > 0 ? make("li", "none", `and ${more} more`) : null),
    owner ? make("p", "none", `owned by ${owner}`) : null,
  );
}

function showSessions({ sessions, metrics, health }) {
  $("session-count").textContent = String(metrics.sessions.active);
  const sorted = [...sessions].sort((a, b) => b.connectedCount - a.connectedCount || a.sessionId.localeCompare(b.sessionId));
  $("sessions").replaceChildren(...(sorted.length > 0 ? sorted.map((one) => session(one, health.cluster)) : [make("p", "none", "No sessions.")]));
}

/** Marks numbers as old, since they would look like current ones. */
function showLost() {
  setStatus("lost", "no answer");
  document.title = "(no answer) BandSync dashboard";
  const since = answeredAt === null ? "" : ` since ${new Date(answeredAt).toLocaleTimeString([], { hour12: false })}; the numbers below are from then`;
  $("lost").textContent = `The server does not answer${since}. This page keeps trying.`;
  $("lost").hidden = false;
  $("state").classList.add("stale");
}

function showFound() {
  answeredAt = Date.now();
  $("lost").hidden = true;
  $("state").classList.remove("stale");
  $("state").hidden = false;
  $("gate").hidden = true;
}

// Once a second. While the page is hidden it requests nothing, and the missed time is a gap.

let waiting = null;
let answeredAt = null;
async function step() {
  clearTimeout(waiting);
  waiting = null;
  try {
    if (!document.hidden) {
      const data = await ask("/dashboard/data");
      showFound();
      remember(data);
      showTop(data);
      showTiles(data);
      showAlerts(data);
      showCluster(data);
      showShards(data);
      showSessions(data);
      lookForScrollers();
      const { targetLatency } = data.metrics.performance;
      for (const { plan, plot } of plots) if (plan.target) plot.mark = targetLatency;
      if (minutes === 0) showLive();
      else await showHistory();
    }
  } catch (error) {
    if (error instanceof Refused) return showGate(error);
    showLost();
  }
  if (waiting === null) waiting = setTimeout(step, EVERY_MS);
}

document.addEventListener("visibilitychange", () => document.hidden || step());
step();
