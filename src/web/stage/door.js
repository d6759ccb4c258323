// The door: a name, an instrument, and in. A page that was on the stage when it was reloaded goes straight back there.

import { DOOR, ERRORS, STAGE, fill } from "../texts.js";
import { h } from "./dom.js";
import { recall, remember } from "./keep.js";
import { keepSeat } from "./seat.js";
import { keepBack } from "./sheet.js";

const SLOW_MS = 3000;
const SCREEN_RETRY_MS = 2000;
const DEFAULT_SESSION = "stage";

/** Takes the passcode out of the address, where others could read it and the history would keep it. */
function passcodeOfLink() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const passcode = fields.get("passcode");
  if (passcode === null) return null;
  history.replaceState(history.state, "", location.pathname + location.search);
  return passcode;
}

export function mountDoor(stage, root, room) {
  const { band } = stage;
  const seat = keepSeat(() => (stage.isOpen && !stage.isScreen ? band.sessionId : null));
  const asked = new URLSearchParams(location.search);
  const link = passcodeOfLink();
  /** A passcode of the link must survive a reload of the door, so the tab keeps it until the join. */
  if (link !== null) remember("passcode", link, "tab");
  let attempt = 0;

  const session = h("input", { id: "session", maxlength: 128, autocapitalize: "off", spellcheck: "false", autocomplete: "off", data: { testid: "session" } });
  const sessionRow = h("div", { class: "field", hidden: true }, h("label", { for: "session" }, DOOR.session), session);
  const name = h("input", {
    id: "name", maxlength: 64, placeholder: DOOR.namePlaceholder, enterkeyhint: "go", autocapitalize: "words", autocomplete: "nickname",
    spellcheck: "false", data: { testid: "name" },
  });
  const passcode = h("input", { id: "passcode", type: "password", maxlength: 128, autocomplete: "off", data: { testid: "passcode" } });
  const passcodeRow = h("div", { class: "field", hidden: true }, h("label", { for: "passcode" }, DOOR.passcode), passcode);
  const error = h("p", { id: "join-error", class: "problem", role: "alert", data: { testid: "join-error" }, hidden: true });
  const join = h("button", { type: "submit", class: "primary big", data: { testid: "join" } }, stage.isScreen ? DOOR.screenJoins : DOOR.join);
  const where = h("bdi", {});
  const other = h("button", { type: "button", class: "link", data: { testid: "another-session" }, onclick: showSession }, DOOR.anotherSession);
  const chips = Object.entries(DOOR.instruments).map(([id, text]) =>
    h("label", { class: "chip" }, h("input", { type: "radio", name: "instrument", value: id, data: { testid: `instrument-${id}` } }), h("span", {}, text)),
  );
  const instruments = h("fieldset", { class: "chips" }, h("legend", {}, DOOR.instrument), ...chips);
  const form = h(
    "form", { id: "join-form", data: { testid: "join-form" }, novalidate: true, onsubmit: submit },
    !stage.isScreen && h("div", { class: "field" }, h("label", { for: "name" }, DOOR.name), name),
    !stage.isScreen && instruments,
    sessionRow, passcodeRow, error, join,
    h("p", { class: "where-to" }, where, " ", other),
  );
  root.append(h("p", { class: "lede" }, DOOR.lede), form, !stage.isScreen ? h("p", { class: "hint" }, DOOR.hint) : "");

  name.value = asked.get("name") ?? recall("name", "");
  session.value = asked.get("session") || DEFAULT_SESSION;
  const kept = recall("instrument", "");
  // A second press on a chip takes it back: an instrument is optional.
  let chosen = null;
  for (const chip of chips) {
    const box = chip.firstChild;
    if (box.value === kept) box.checked = true;
    if (box.checked) chosen = box;
    box.addEventListener("click", () => {
      if (chosen === box) box.checked = false;
      chosen = box.checked ? box : null;
    });
  }
  describe();

  function describe() {
    where.textContent = fill(DOOR.inSession, { session: session.value.trim() || DEFAULT_SESSION });
    where.hidden = other.hidden = !sessionRow.hidden;
  }

  function showSession() {
    sessionRow.hidden = false;
    describe();
    session.focus();
    session.select();
  }

  function problem(text) {
    error.textContent = text;
    error.hidden = text === "";
  }

  function submit(event) {
    event.preventDefault();
    const [called, sessionId] = [name.value.trim(), session.value.trim()];
    if (!called && !stage.isScreen) return problem(DOOR.nameMissing) ?? name.focus();
    if (!sessionId) return problem(DOOR.sessionMissing) ?? showSession();
    const instrument = chosen?.value ?? "";
    remember("name", called);
    remember("instrument", instrument);
    return enter({ name: called, sessionId, instrument: instrument && DOOR.instruments[instrument], passcode: passcode.value || undefined });
  }

  /** Joins, and opens the stage. */
  async function enter({ sessionId, name: called, instrument, passcode: typed }, { isBack = false } = {}) {
    const mine = (attempt += 1);
    const secret = typed ?? recall("passcode", null, "tab") ?? undefined;
    problem("");
    join.setAttribute("aria-busy", "true");
    band.leave();
    // A member that comes back may read its songs while the server is away.
    const slow = setTimeout(() => (isBack ? open() : problem(DOOR.slow)), SLOW_MS);
    try {
      await band.join({
        sessionId,
        name: called,
        instrument: instrument || undefined,
        // A member that asks for no role follows, unless nobody leads: who comes first leads.
        role: undefined,
        passcode: secret,
        view: stage.isScreen ? "screen" : "member",
      });
      if (mine !== attempt) return;
      // A member has a token from now on. A screen has none, and needs the passcode after a reload of its tab.
      remember("passcode", stage.isScreen ? (secret ?? null) : null, "tab");
      passcode.value = "";
      passcodeRow.hidden = true;
      remember("in", { sessionId, name: called, instrument }, "tab");
      if (!stage.isScreen) seat.take({ sessionId, name: called, instrument });
      address(sessionId);
      open();
    } catch (failure) {
      if (mine !== attempt) return;
      remember("in", null, "tab");
      refused(failure, { secret, sessionId, again: () => enter({ sessionId, name: called, instrument, passcode: typed }) });
    } finally {
      clearTimeout(slow);
      if (mine === attempt) join.removeAttribute("aria-busy");
    }
  }

  function refused(failure, { secret, sessionId, again }) {
    if (stage.isOpen) {
      stage.leave();
      keepBack(null);
    }
    show();
    if (failure.code === "bad_passcode") {
      remember("passcode", null, "tab");
      passcodeRow.hidden = false;
      problem(secret ? DOOR.wrongPasscode : DOOR.needsPasscode);
      passcode.value = "";
      passcode.focus();
    } else if (failure.code === "session_not_found" && stage.isScreen) {
      problem(fill(DOOR.screenWaits, { session: sessionId }));
      setTimeout(again, SCREEN_RETRY_MS);
    } else if (failure.code === "session_full") full(failure, { sessionId, passcode: secret });
    else problem(stage.reason(failure));
  }

  /** All places are taken, or those of screens, or the server has no room: its words say which. */
  async function full({ message = "" }, asked) {
    const n = /(\d+) members/.exec(message)?.[1];
    if (!n || stage.isScreen) return problem(stage.reason({ message }));
    const search = new URLSearchParams({ session: asked.sessionId, view: "screen" });
    const say = (leader) => {
      problem(fill(ERRORS.session_full, { n, leader }));
      error.append(" ", h("a", { href: `?${search}`, data: { testid: "watch" } }, DOOR.watch));
    };
    const mine = attempt;
    say(DOOR.theLeader);
    const name = await import("./leader-of.js").then(({ leaderOf }) => leaderOf(asked)).catch(() => "");
    return name && mine === attempt && !stage.isOpen ? say(name) : undefined;
  }

  /** Makes a reload come back to the same session. */
  function address(sessionId) {
    const url = new URL(location.href);
    url.hash = "";
    if (sessionId === (url.searchParams.get("session") || DEFAULT_SESSION)) return;
    url.searchParams.set("session", sessionId);
    url.searchParams.delete("name");
    history.replaceState(history.state, "", url);
  }

  function open() {
    room.hidden = true;
    document.getElementById("stage").hidden = false;
    if (!stage.isScreen) keepBack(() => stage.call("leave"));
    stage.enter();
  }

  function show(why = "") {
    document.getElementById("stage").hidden = true;
    room.hidden = false;
    document.documentElement.classList.remove("returning");
    problem(why);
    describe();
  }

  /** Leaves the session for good, or after a rejection with a text. */
  function close(why = "") {
    attempt += 1;
    remember("in", null, "tab");
    seat.leave();
    band.leave();
    stage.leave();
    keepBack(null);
    show(why);
    name.focus({ preventScroll: true });
  }

  stage.provide("close-stage", close);
  stage.provide("open-stage", open);
  session.addEventListener("input", describe);
  band.addEventListener("refused", ({ detail }) => {
    if (stage.isOpen) close(stage.reason(detail));
  });
  band.addEventListener("session-ended", () => close(STAGE.ended));

  /** Goes back to the stage. Nothing of the door is shown meanwhile, unless the server takes its time. */
  function goBack(before) {
    document.documentElement.classList.add("returning");
    setTimeout(() => document.documentElement.classList.remove("returning"), SLOW_MS / 2);
    enter(before, { isBack: true });
  }

  const before = recall("in", null, "tab");
  if (stage.isScreen) enter({ sessionId: session.value, name: "" });
  else if (before?.sessionId === session.value) goBack(before);
  else {
    if (matchMedia("(pointer: fine)").matches) (name.value ? join : name).focus({ preventScroll: true });
    const first = attempt;
    seat.lost(session.value).then((lost) => {
      if (lost && attempt === first && !stage.isOpen) goBack(lost);
    });
  }
}
