// The invitation: a QR code, and the address and the session in letters that are read from across a room.
//
// A passcode goes into the link only if the leader wants that. It stands in the fragment, which no browser sends to a
// server or a proxy; the door takes it out of the address.

import { INVITE, fill } from "../texts.js";
import { h, write } from "./dom.js";
import { qrCode, qrPath } from "./qr.js";

const SVG = "http://www.w3.org/2000/svg";
/** Names of the device itself, which lead nowhere from another one. */
const OWN_HOSTS = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;

/** The link into a session. @param {{ origin: string, session: string, passcode?: string }} parts */
export function linkTo({ origin, session, passcode = "" }) {
  const url = new URL("/", origin);
  url.searchParams.set("session", session);
  if (passcode) url.hash = new URLSearchParams({ passcode }).toString();
  return url.href;
}

/** Provides `invite`, which opens the sheet. */
export function mountInvite(stage) {
  const { band } = stage;
  const path = document.createElementNS(SVG, "path");
  const code = document.createElementNS(SVG, "svg");
  code.setAttribute("class", "invite-code");
  code.setAttribute("role", "img");
  code.setAttribute("data-testid", "invite-code");
  code.append(path);

  const address = h("p", { class: "invite-letters", data: { testid: "invite-address" } });
  const session = h("p", { class: "invite-letters", dir: "auto", data: { testid: "invite-session" } });
  const link = h("p", { class: "invite-link", data: { testid: "invite-link" } });
  const local = h("p", { class: "problem", hidden: true }, INVITE.onlyHere);
  const tooLong = h("p", { class: "problem", hidden: true }, INVITE.tooLong);

  const withPasscode = h("input", {
    type: "checkbox",
    id: "invite-passcode",
    data: { testid: "invite-passcode" },
    onchange: show,
  });
  const passcode = h("input", {
    type: "password",
    id: "invite-secret",
    maxlength: 128,
    autocomplete: "off",
    "aria-label": INVITE.passcode,
    placeholder: INVITE.passcode,
    data: { testid: "invite-secret" },
    oninput: show,
  });
  const secret = h(
    "form",
    { class: "invite-secret", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "check", for: "invite-passcode" }, withPasscode, h("span", {}, INVITE.withPasscode)),
    passcode,
    h("p", { class: "hint" }, INVITE.passcodeHint),
  );

  const copy = h("button", { data: { testid: "invite-copy" }, onclick: copyLink }, INVITE.copy);
  const share = h("button", { data: { testid: "invite-share" }, onclick: shareLink }, INVITE.share);
  const sheet = h(
    "div",
    { class: "invite" },
    h("div", { class: "invite-paper" }, code),
    h(
      "div",
      { class: "invite-words" },
      h("p", { class: "hint" }, INVITE.address),
      address,
      h("p", { class: "hint" }, INVITE.session),
      session,
      local,
      tooLong,
      secret,
      h("div", { class: "invite-buttons" }, copy, share),
      h("p", { class: "hint" }, INVITE.link),
      link,
    ),
  );

  const isLeadersChoice = () => stage.isLeader && stage.settings?.hasPasscode === true;
  const current = () =>
    linkTo({
      origin: location.origin,
      session: band.sessionId,
      passcode: isLeadersChoice() && withPasscode.checked ? passcode.value : "",
    });

  function show() {
    const isOffered = isLeadersChoice();
    secret.hidden = !isOffered;
    passcode.hidden = !withPasscode.checked;
    local.hidden = !OWN_HOSTS.test(location.hostname);
    copy.hidden = !navigator.clipboard?.writeText;
    share.hidden = !navigator.share;
    // Breaks only before the port.
    const { hostname, port } = location;
    address.replaceChildren(hostname, ...(port ? [h("wbr"), `:${port}`] : []));
    write(session, band.sessionId);
    const href = current();
    // A passcode that is in the link is not shown beside it.
    write(link, href.split("#")[0]);
    draw(href);
  }

  function draw(href) {
    if (code.dataset.link === href) return;
    try {
      const { d, size } = qrPath(qrCode(href));
      path.setAttribute("d", d);
      code.setAttribute("viewBox", `0 0 ${size} ${size}`);
      code.setAttribute("aria-label", fill(INVITE.code, { address: href.split("#")[0] }));
      code.dataset.link = href;
      tooLong.hidden = true;
    } catch {
      tooLong.hidden = false;
    }
    code.toggleAttribute("hidden", !tooLong.hidden);
  }

  async function copyLink() {
    try {
      await navigator.clipboard.writeText(current());
      stage.toast(INVITE.copied, { plain: true });
    } catch {
      stage.toast(INVITE.notCopied);
    }
  }

  function shareLink() {
    // A share that the user gives up is rejected too.
    navigator
      .share({ title: "BandSync", text: fill(INVITE.shareText, { session: band.sessionId }), url: current() })
      .catch(() => {});
  }

  function forget() {
    withPasscode.checked = false;
    passcode.value = "";
    delete code.dataset.link;
    path.removeAttribute("d");
  }

  stage.addEventListener("members", () => sheet.isConnected && show());
  stage.provide("invite", () => {
    show();
    stage.openSheet(sheet, { title: INVITE.title, testid: "invite", wide: true, onClose: forget });
  });
}
