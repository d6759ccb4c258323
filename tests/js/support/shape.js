// Compares payloads with their expected fields, and reports all differences at once.
import assert from "node:assert/strict";

const kinds = {
  string: (value) => typeof value === "string",
  number: (value) => Number.isFinite(value),
  boolean: (value) => typeof value === "boolean",
  array: Array.isArray,
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  // Null means that there is no such member or thing.
  "string or null": (value) => value === null || typeof value === "string",
  "number or null": (value) => value === null || Number.isFinite(value),
};

/** Checks that a payload has `fields`: each name maps to a kind, or to the exact value. */
export function assertShape(payload, fields, what = "payload") {
  assert.ok(kinds.object(payload), `${what} is an object, not ${JSON.stringify(payload)}`);
  const wrong = [];
  for (const [name, kind] of Object.entries(fields)) {
    const value = payload[name];
    const fits = Object.hasOwn(kinds, kind) ? kinds[kind](value) : Object.is(value, kind);
    if (!(name in payload)) wrong.push(`${name} is missing`);
    else if (!fits) wrong.push(`${name} is ${JSON.stringify(value)}, not ${kind}`);
  }
  assert.deepEqual(wrong, [], `${what}: ${JSON.stringify(payload)}`);
}

const SNAPSHOT = {
  sessionId: "string",
  message: "string",
  tempo: "number",
  tempoBpm: "number",
  position: "number",
  isPlaying: "boolean",
  leaderSocketId: "string or null",
  members: "array",
  createdAt: "number",
  lastActiveAt: "number",
  settings: "object",
  serverTimestamp: "number",
  epoch: "number",
  version: "number",
  timeline: "object",
};

const MEMBER = {
  socketId: "string",
  displayName: "string",
  role: "string",
  joinedAt: "number",
  lastPingAt: "number",
  connected: "boolean",
};

const TIMELINE = {
  epoch: "number",
  version: "number",
  segments: "array",
  meter: "array",
  quantum: "number",
  countIn: "number",
  madeAt: "number",
};

const SEGMENT = {
  t0: "number",
  p0: "number",
  b0: "number",
  rate: "number",
  bpm0: "number",
  bpm1: "number",
  ramp: "number",
};

export function assertSnapshot(snapshot) {
  assertShape(snapshot, SNAPSHOT, "snapshot");
  assertShape(snapshot.settings, { maxMembers: "number" }, "settings");
  snapshot.members.forEach(assertMember);
  assertTimeline(snapshot.timeline);
}

export function assertMember(member) {
  assertShape(member, MEMBER, "member");
  assert.ok(["leader", "follower"].includes(member.role), `role of ${JSON.stringify(member)}`);
}

export function assertTimeline(timeline) {
  assertShape(timeline, TIMELINE, "timeline");
  assert.ok(timeline.segments.length >= 1, "a timeline has a segment");
  for (const segment of timeline.segments) {
    assertShape(segment, SEGMENT, "segment");
    for (const [name, value] of Object.entries(segment)) {
      assert.ok(Number.isInteger(value), `segment ${name} is an integer: ${value}`);
    }
  }
}

/** Checks an acknowledgement of success: `{ok: true, …}`. */
export function assertDone(ack, fields = {}) {
  assertShape(ack, { ok: true, ...fields }, "acknowledgement");
}

/** Checks an acknowledgement of a rejection: `{ok: false, error: {code, message, field?}}`. */
export function assertRefused(ack, code, field, more) {
  assertShape(ack, { ok: false, error: "object" }, "acknowledgement");
  const { error } = ack;
  assertShape(error, { code, message: "string", ...(field && { field }), ...more }, "error of the acknowledgement");
}

/** Checks an event `error`, which answers an event that asked for no acknowledgement. */
export function assertErrorEvent(payload, event, code, field) {
  assertShape(payload, { event, code, message: "string", ...(field && { field }) }, "event error");
}
