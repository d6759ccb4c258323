// All texts of the stage page, by room. `{name}` is a place for a value: `fill` puts it in.

/** Puts values into the places of a text. */
export const fill = (text, values = {}) =>
  text.replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));

export const DOOR = {};

export const STAGE = {};

export const ERRORS = {};

export const SONG = {};

export const VIEW = {};

export const SONGS = {};

export const EDITOR = {};

export const CHART = {};

export const SOUND = {};

export const INVITE = {};
