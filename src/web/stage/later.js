// Rooms that are fetched when they are needed, so that the page opens fast over a slow network.

import { STAGE } from "../texts.js";

const STYLE = new URL("../css/rooms.css", import.meta.url).href;
let style = null;

/** Adds the styles of all these rooms, once. */
export function roomStyle() {
  style ??= withStyle(STYLE).catch((error) => {
    style = null;
    throw error;
  });
  return style;
}

/** The functions that mount rooms, in order. */
const rooms = [];

/** Fetches and mounts all rooms that nobody has opened yet, one after the other: they must open without the server too. */
export async function mountAll() {
  for (const ready of rooms) await ready();
}

/**
 * Lets a room be called by its names before its module is here: the first call fetches and mounts it. If it cannot be
 * fetched, the page says so, and the next call tries again.
 *
 * @param {import("./model.js").Stage} stage
 * @param {string[]} names of the functions that the room provides
 * @param {() => Promise} mount fetches the module and mounts the room
 * @returns {() => Promise<boolean>} fetches and mounts the room, and says whether it is mounted
 */
export function mountLater(stage, names, mount) {
  let mounting = null;
  const ready = () => {
    mounting ??= roomStyle().then(mount).then(
      () => true,
      () => {
        mounting = null;
        return false;
      },
    );
    return mounting;
  };
  rooms.push(ready);
  for (const name of names) {
    stage.provide(name, async (...args) => {
      if (await ready()) stage.call(name, ...args);
      else stage.toast(STAGE.notFetched);
    });
  }
  return ready;
}

/** Adds styles to the page, and waits until they hold. @param {string} href */
export function withStyle(href) {
  const link = document.createElement("link");
  Object.assign(link, { rel: "stylesheet", href });
  return new Promise((resolve, reject) => {
    link.onload = () => resolve();
    link.onerror = () => {
      link.remove();
      reject(new Error(`${href} could not be fetched`));
    };
    document.head.append(link);
  });
}
