// The settings of the session. The leader changes them; each takes effect at once.

import { STAGE } from "../texts.js";
import { h, mark, write } from "./dom.js";

export function mountSettings(stage) {
  const { band } = stage;
  const change = async (fields) => {
    const done = await stage.command(band.updateSettings(fields));
    if (!done) show();
    return done;
  };
  const select = (id, texts, field) => {
    const el = h("select", { id, data: { testid: id }, onchange: () => change({ [field]: el.value }) },
      ...Object.entries(texts).map(([value, text]) => h("option", { value }, text)));
    return el;
  };
  const check = (id, field) => {
    const el = h("input", { type: "checkbox", id, data: { testid: id }, onchange: () => change({ [field]: el.checked }) });
    return el;
  };
  const rule = select("leader-rule", STAGE.leaderRules, "leaderRule");
  const loss = select("on-leader-loss", STAGE.onLeaderLosses, "onLeaderLoss");
  const cue = check("anyone-may-cue", "anyoneMayCue");
  const edit = check("anyone-may-edit", "anyoneMayEdit");
  const most = h("input", { id: "max-members", type: "number", min: 1, max: 100000, inputmode: "numeric", data: { testid: "max-members" },
    onchange: () => change({ maxMembers: Number(most.value) }) });
  const secret = (id, label, save, run, numeric) => {
    const field = h("input", { id, type: "password", maxlength: 128, autocomplete: "new-password", inputmode: numeric ? "numeric" : null, data: { testid: id } });
    const form = h("form", { class: "secret", onsubmit: async (event) => {
      event.preventDefault();
      if (field.value && (await run(field.value))) {
        field.value = "";
        stage.toast(STAGE.saved, { plain: true });
      }
    } }, h("label", { for: id }, label), h("div", { class: "row" }, field, h("button", { type: "submit", data: { testid: `${id}-save` } }, save)));
    return form;
  };
  const pin = secret("leader-pin", STAGE.pinNew, STAGE.pinSave, (value) => change({ leaderPin: value }), true);
  const passcode = secret("new-passcode", STAGE.passcodeNew, STAGE.passcodeSave, (value) => change({ passcode: value }));
  const has = h("p", { class: "hint" });
  const remove = h("button", { data: { testid: "passcode-remove" }, onclick: () => change({ passcode: null }) }, STAGE.passcodeRemove);
  const fields = h("fieldset", { class: "fields" }, h("legend", { class: "unseen" }, STAGE.settingsTitle),
    h("label", { for: "leader-rule" }, STAGE.leaderRule), rule,
    pin,
    passcode, h("div", { class: "row spread" }, has, remove),
    h("label", { class: "check" }, cue, h("span", {}, STAGE.anyoneMayCue)),
    h("label", { class: "check" }, edit, h("span", {}, STAGE.anyoneMayEdit)),
    h("label", { for: "on-leader-loss" }, STAGE.onLeaderLoss), loss,
    h("label", { for: "max-members" }, STAGE.maxMembers), most);
  const follow = h("p", { class: "hint" }, STAGE.settingsFollow);
  const sheet = h("div", { data: { testid: "settings" } }, follow, fields);

  function show() {
    const { settings, isLeader } = stage;
    if (!settings || !sheet.isConnected) return;
    fields.disabled = !isLeader;
    follow.hidden = isLeader;
    // Without a field that can have the focus, a keyboard scrolls the sheet itself.
    mark(sheet.parentElement, "tabindex", isLeader ? null : "0");
    const put = (el, value) => {
      if (document.activeElement !== el) el.value = String(value);
    };
    put(rule, settings.leaderRule);
    put(loss, settings.onLeaderLoss);
    put(most, settings.maxMembers);
    cue.checked = settings.anyoneMayCue;
    edit.checked = settings.anyoneMayEdit;
    pin.hidden = settings.leaderRule !== "pin";
    write(has, settings.hasPasscode ? STAGE.passcodeOn : STAGE.passcodeOff);
    remove.hidden = !settings.hasPasscode;
  }

  stage.addEventListener("members", show);
  stage.provide("settings", () => {
    stage.openSheet(sheet, { title: STAGE.settingsTitle, testid: "settings-sheet" });
    show();
  });
}
