// The list of members, and what the leader may do with each.

import { STAGE, fill } from "../texts.js";
import { h } from "./dom.js";
import { nameOf } from "./model.js";

export function mountMembers(stage) {
  const { band } = stage;
  const list = h("ul", { class: "members", data: { testid: "members" } });
  const alone = h("p", { class: "hint", data: { testid: "alone" } }, STAGE.alone);
  const invite = h("button", { data: { testid: "members-invite" }, onclick: () => stage.call("invite") }, STAGE.invite);
  const giveUp = h("button", { data: { testid: "give-up" }, onclick: () => stage.call("give-up") }, STAGE.giveUp);
  const sheet = h("div", { class: "members-room" }, list, alone, h("div", { class: "more-row" }, invite, giveUp));

  function show() {
    if (!sheet.isConnected) return;
    const leaderFirst = [...band.members].sort((a, b) => (b.socketId === band.leaderId) - (a.socketId === band.leaderId));
    const focused = document.activeElement?.closest?.("[data-action]");
    const held = focused && sheet.contains(focused) ? focused.dataset.action : null;
    list.replaceChildren(...leaderFirst.map(row));
    const others = band.memberCount - band.members.length;
    if (others > 0) list.append(h("li", { class: "hint" }, fill(others === 1 ? STAGE.others.one : STAGE.others.many, { n: others })));
    const { screens } = stage;
    if (screens > 0) list.append(h("li", { class: "hint" }, fill(screens === 1 ? STAGE.screens.one : STAGE.screens.many, { n: screens })));
    alone.hidden = band.memberCount > 1;
    giveUp.hidden = !stage.isLeader || band.memberCount < 2;
    invite.hidden = !stage.has("invite");
    // A change of the list must not take the focus away.
    if (held) list.querySelector(`[data-action="${held}"]`)?.focus({ preventScroll: true });
  }

  function row(member) {
    const { socketId } = member;
    const isMe = socketId === band.id;
    const leads = socketId === band.leaderId;
    const notes = [member.instrument, isMe && STAGE.you, member.connected === false && STAGE.away].filter(Boolean).join(" · ");
    const acts = stage.isLeader && !leads && member.connected !== false;
    const mayEdit = h("input", { type: "checkbox", checked: member.mayEdit === true, "aria-label": fill(STAGE.mayEditTitle, { name: nameOf(member) }),
      data: { testid: "may-edit", action: `edit-${socketId}` }, onchange: () => stage.command(band.setMember(socketId, { mayEdit: mayEdit.checked })) });
    const hand = h("button", { "aria-label": fill(STAGE.handOverTo, { name: nameOf(member) }), data: { testid: "hand-over", action: `lead-${socketId}` },
      onclick: () => stage.call("hand-over", socketId) }, STAGE.handOver);
    return h("li", { class: member.connected === false ? "member away" : "member", data: { testid: "member", id: socketId } },
      h("p", {}, h("bdi", { class: "who" }, nameOf(member)), leads && h("span", { class: "crown" }, STAGE.lead), notes && h("small", {}, notes)),
      acts && h("div", { class: "acts" }, !stage.settings?.anyoneMayEdit && h("label", { class: "check" }, mayEdit, h("span", {}, STAGE.mayEdit)), hand));
  }

  stage.addEventListener("members", show);
  stage.provide("members", () => {
    stage.openSheet(sheet, { title: fill(STAGE.membersTitle, { n: band.memberCount }), testid: "members-sheet" });
    show();
  });
}
