// The stage page: opens the door, then the stage, and gives each room its place. Messages draw nothing: each frame asks
// the client where the music is.

import { BandSync } from "./bandsync.js";
import { mountCues } from "./stage/cues.js";
import { mountDock } from "./stage/dock.js";
import { mountDoor } from "./stage/door.js";
import { mountHeader } from "./stage/header.js";
import { mountKeyboard } from "./stage/keyboard.js";
import { mountAll, mountLater, roomStyle, withStyle } from "./stage/later.js";
import { mountLead } from "./stage/lead.js";
import { Stage } from "./stage/model.js";
import { mountRail } from "./stage/rail.js";
import { mountSong } from "./stage/song.js";
import { mountStates } from "./stage/states.js";
import { Steer } from "./stage/steer.js";
import { mountTempos } from "./stage/tempos.js";
import { mountSound } from "./sound/panel.js";

const $ = (id) => document.getElementById(id);

/** Features that set the minimum versions of browsers. */
const isNewEnough = () =>
  typeof [].findLast === "function" && CSS.supports("selector(:has(*))") && CSS.supports("height: 1dvh");

/** Time after which the songs' rooms are fetched if nothing needed them before. Guessed. */
const SONGS_LATEST_MS = 2000;

/** Time after which all other rooms are fetched. Guessed. */
const ROOMS_MS = 4000;

/** The songs' rooms are fetched with the first song, when somebody opens them or brings a file, or a little later. */
function mountSongsLater(stage) {
  const names = ["songs", "song-add", "song-import", "song-edit"];
  // What is dropped or pasted before the room is here waits for it.
  const early = (event) => {
    if (!stage.isOpen || event.target.closest?.("input, textarea")) return;
    const brought = event.dataTransfer ?? event.clipboardData;
    const [files, text] = [[...(brought?.files ?? [])], brought?.getData("text/plain") ?? ""];
    if (files.length > 0) stage.call("song-import", files);
    else if (text.trim() !== "") stage.call("song-add", text);
    else return;
    event.preventDefault();
  };
  const allowDrop = (event) => stage.isOpen && event.preventDefault();
  const listeners = [["dragover", allowDrop], ["drop", early], ["paste", early]];
  const mount = mountLater(stage, names, async () => {
    const { mountSongs, STYLE } = await import("./stage/songs.js");
    await withStyle(STYLE);
    for (const [type, listener] of listeners) removeEventListener(type, listener);
    mountSongs(stage);
  });
  for (const [type, listener] of listeners) addEventListener(type, listener);
  stage.addEventListener("setlist", () => stage.setlist?.songs.length > 0 && mount());
  stage.addEventListener("open", () => setTimeout(mount, SONGS_LATEST_MS));
}

function start() {
  const view = new URLSearchParams(location.search).get("view");
  const band = new BandSync();
  const stage = new Stage(band, { screen: view !== null });
  const steer = new Steer(stage);
  // For tests, and for the curious.
  Object.assign(window, { bandsync: band, stage });

  const system = matchMedia("(prefers-color-scheme: light)");
  const dress = () => {
    const { theme } = stage.view;
    const name = theme === "system" ? (system.matches ? "day" : "night") : theme;
    document.documentElement.dataset.theme = name;
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--bg").trim();
    document.querySelector('meta[name="theme-color"]').content = colour;
  };
  stage.addEventListener("view", dress);
  system.addEventListener?.("change", dress);
  dress();

  if (view !== null) {
    document.documentElement.dataset.view = view;
    mountCues(stage, $("cue-room"));
    Promise.all([import("./stage/screen.js"), roomStyle()]).then(([{ mountScreen }]) => mountScreen(stage, $("song"), view));
    mountSound(stage);
  } else {
    mountStates(stage, $("over-song"), steer);
    // In each frame these two read the layout, and the header changes it.
    mountSong(stage, $("song"));
    mountRail(stage, $("rail"), steer);
    mountHeader(stage, $("top"), steer);
    mountDock(stage, $("dock"), steer);
    mountCues(stage, $("cue-room"));
    mountLead(stage, $("over-song"));
    mountLater(stage, ["cues"], async () => (await import("./stage/cue-sheet.js")).mountCueSheet(stage));
    mountLater(stage, ["members"], async () => (await import("./stage/members.js")).mountMembers(stage));
    mountLater(stage, ["settings"], async () => (await import("./stage/settings.js")).mountSettings(stage));
    mountSongsLater(stage);
    mountLater(stage, ["view"], async () => (await import("./stage/view.js")).mountView(stage));
    mountSound(stage);
    mountLater(stage, ["invite"], async () => (await import("./stage/invite.js")).mountInvite(stage));
    mountTempos(stage);
    mountKeyboard(stage, steer);
    mountLater(stage, ["keys", "midi"], async () => (await import("./stage/keys.js")).mountKeys(stage));
    // If the server goes away before that, they are fetched when it is back.
    const mountRest = () => stage.isOpen && band.status !== "reconnecting" && mountAll();
    stage.addEventListener("open", () => setTimeout(mountRest, ROOMS_MS));
    stage.addEventListener("status", mountRest);
  }
  mountDoor(stage, $("door-room"), $("door"));
}

if (isNewEnough()) {
  $("too-old").hidden = true;
  start();
} else {
  $("too-old").classList.remove("late");
}
