// The lead: asking for it, handing it over, and what a member reads that lost it while it was away.

import { STAGE, fill } from "../texts.js";
import { h } from "./dom.js";
import { recall, remember } from "./keep.js";
import { nameOf } from "./model.js";

export function mountLead(stage, root) {
  const { band } = stage;
  /** Members that ask for the lead, in order: `{ id, name }`. They are answered one after the other. */
  let requesters = [];
  /** Whether this member led before the connection was lost or the page was reloaded. */
  let led = false;
  /** Whether this member gave the lead away itself. */
  let gave = false;
  let pending = false;
  /** Whether somebody else led since this member joined. */
  let followed = false;

  const asks = h("p", { id: "lead-request-text" });
  const yes = h("button", { class: "primary", data: { testid: "approve" }, onclick: () => answer(true) }, STAGE.approve);
  const no = h("button", { data: { testid: "deny" }, onclick: () => answer(false) }, STAGE.deny);
  const request = h("div", { class: "notice lead-request", role: "alertdialog", "aria-labelledby": "lead-request-text", data: { testid: "lead-request" }, hidden: true }, asks, yes, no);
  const lost = h("p", {});
  const back = h("button", { class: "primary", data: { testid: "ask-back" }, onclick: () => {
    lostNotice.hidden = true;
    take();
  } });
  const dismiss = h("button", { class: "quiet", data: { testid: "lead-lost-close" }, onclick: () => {
    lostNotice.hidden = true;
  } }, STAGE.close);
  const lostNotice = h("div", { class: "notice", role: "status", data: { testid: "lead-lost" }, hidden: true }, lost, back, dismiss);
  root.append(request, lostNotice);

  const pin = h("input", { id: "pin", type: "password", inputmode: "numeric", autocomplete: "off", maxlength: 128, data: { testid: "pin" } });
  const pinForm = h("form", { class: "fields", onsubmit: async (event) => {
    event.preventDefault();
    if (await stage.command(band.takeLead(pin.value), { texts: { bad_passcode: STAGE.pinWrong } })) stage.closeSheet(pinForm);
    pin.value = "";
  } }, h("label", { for: "pin" }, STAGE.pin), pin, h("button", { type: "submit", class: "primary" }, STAGE.takeLead));

  /** The word on the button that takes or asks for the lead. */
  function word() {
    if (!band.leader) return STAGE.lead;
    return stage.settings?.leaderRule === "ask" ? STAGE.askLead : STAGE.takeLead;
  }

  async function take() {
    const { leader } = band;
    if (leader && stage.settings?.leaderRule === "pin") {
      stage.openSheet(pinForm, { title: STAGE.pinTitle, testid: "pin-sheet" });
      pin.focus();
      return;
    }
    let answered = null;
    const done = await stage.command(band.takeLead().then((result) => {
      answered = result;
    }));
    if (done && answered?.pending) {
      pending = true;
      stage.toast(fill(STAGE.askedLead, { name: leader ? nameOf(leader) : STAGE.somebody }), { plain: true });
    }
  }

  function answer(isYes) {
    const requester = requesters.shift();
    show();
    if (!requester) return;
    if (isYes) gave = true;
    stage.command(isYes ? band.approveLead(requester.id) : band.denyLead(requester.id));
  }

  function handOver(memberId) {
    gave = true;
    return stage.command(band.handOver(memberId));
  }

  function show() {
    const here = new Set(band.members.filter(({ connected }) => connected !== false).map(({ socketId }) => socketId));
    // In a large session `members` lists only a part of the members.
    const isGone = ({ id }) => band.memberCount <= band.members.length && !here.has(id);
    requesters = band.isLeader ? requesters.filter((requester) => !isGone(requester)) : [];
    request.hidden = requesters.length === 0;
    if (request.hidden) return;
    const [before, after] = STAGE.asksLead.split("{name}");
    asks.replaceChildren(before, h("bdi", {}, requesters[0].name), after);
  }

  /** Follows the role of this member, and says what became of the lead. */
  function follow() {
    show();
    if (!stage.isOnline || !band.snapshot) return;
    if (band.isLeader) {
      // The server gives a lead that is lost to the next member.
      if (!led && (pending || followed)) stage.toast(STAGE.leadYours, { plain: true });
      [led, gave, pending, followed] = [true, false, false, false];
      lostNotice.hidden = true;
      remember("led", band.sessionId, "tab");
      return;
    }
    const { leader } = band;
    if (led && leader) {
      const text = fill(STAGE.leadsNow, { name: nameOf(leader) });
      if (gave) stage.toast(text, { plain: true });
      else {
        const [before, after] = STAGE.leadsNow.split("{name}");
        lost.replaceChildren(before, h("bdi", {}, nameOf(leader)), after);
        back.textContent = stage.settings?.leaderRule === "ask" ? STAGE.askBack : STAGE.takeBack;
        lostNotice.hidden = false;
      }
    }
    if (leader) {
      [led, gave, followed] = [false, false, true];
      remember("led", null, "tab");
    }
  }

  band.addEventListener("leader_handoff_request", ({ detail }) => {
    const requester = { id: detail.requesterId, name: detail.requesterInfo?.displayName || STAGE.somebody };
    requesters = [...requesters.filter(({ id }) => id !== requester.id), requester];
    show();
  });
  band.addEventListener("leader_request_denied", () => {
    pending = false;
    stage.toast(fill(STAGE.denied, { name: band.leader ? nameOf(band.leader) : STAGE.somebody }), { plain: true });
  });
  // A session that this page makes gets the rule that its leader is asked. An existing session keeps its rule.
  band.addEventListener("snapshot", ({ detail }) => {
    const me = detail.members.find(({ socketId }) => socketId === band.id);
    const madeIt = band.isLeader && detail.members.length === 1 && me?.joinedAt === detail.createdAt;
    if (madeIt && detail.settings.leaderRule === "open") stage.command(band.updateSettings({ leaderRule: "ask" }), { quiet: true });
  });
  stage.addEventListener("members", follow);
  stage.addEventListener("status", follow);
  stage.addEventListener("open", () => {
    led = recall("led", null, "tab") === band.sessionId;
    gave = false;
    follow();
  });
  stage.addEventListener("close", () => {
    [requesters, led, pending, followed] = [[], false, false, false];
    remember("led", null, "tab");
    request.hidden = lostNotice.hidden = true;
  });
  stage.provide("take-lead", take);
  stage.provide("lead-word", word);
  stage.provide("hand-over", handOver);
  stage.provide("give-up", () => {
    gave = true;
    return stage.command(band.follow());
  });
}
