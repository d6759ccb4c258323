// All texts of the stage page, by room. `{name}` is a place for a value: `fill` puts it in.

/** Puts values into the places of a text. */
export const fill = (text, values = {}) =>
  text.replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));

/** The door: what is asked before the stage. */
export const DOOR = Object.freeze({
  lede: "One leads. Everybody is in the same bar.",
});

/** Everything around the song. */
export const STAGE = Object.freeze({
  close: "Close",
  noAnswerYet: "No answer yet",
  pressAgain: "Press again to confirm",
  somebody: "Somebody",
});

/** Texts for rejections, by code. For all other codes the server's words are shown, which have the figures. */
export const ERRORS = Object.freeze({
  unknown: "that did not work",
});

export const SONG = {};

export const VIEW = {};

export const SONGS = {};

export const EDITOR = {};

export const CHART = Object.freeze({
  /** What is wrong in a chart, by the code of the problem. {n} is the line, {text} the words at fault. */
  problems: Object.freeze({
    chord: "Line {n}: “{text}” is not a chord, so it stays as it is.",
    chorus: "Line {n}: {chorus} comes before any chorus.",
    bracket: "Line {n}: “{text}” has a bracket without its pair, so it stays text.",
    brace: "Line {n}: “{text}” looks like a directive but has no closing brace, so it stays text.",
    markup: "Line {n}: {text} has no matching tag, so it stays text.",
    directive: "Line {n}: BandSync does not know {text}, so it is not shown.",
    value: "Line {n}: {text} has a value that BandSync can’t use.",
    unclosed: "Line {n}: {text} has no end. The section ends where the next one begins.",
    end: "Line {n}: {text} ends a section that has not begun.",
  }),
  /** Why a file is refused, by the code of the error. */
  refused: Object.freeze({
    pdf: "This is a PDF. BandSync shows text charts; export ChordPro from your program.",
    image: "This is an image. BandSync shows text charts; type the song, or export ChordPro from your program.",
    musicxml: "This is MusicXML. BandSync shows text charts; export ChordPro, or plain chords and words.",
    guitarpro: "This is a Guitar Pro file. BandSync shows text charts; export it as text first.",
    document: "This is a document of a word processor. Copy its text and paste it here.",
    archive: "This is an archive. Unpack it and choose the songs in it.",
    binary: "This is not a text file. BandSync shows text charts, such as ChordPro, OnSong or OpenSong.",
  }),
  /** Names of sections that have no label. Other kinds are shown by their own name. */
  sections: Object.freeze({ verse: "Verse", chorus: "Chorus", bridge: "Bridge", tab: "Tab", grid: "Grid" }),
  numbered: "{name} {number}",
  notShown: "[{name}: not shown]",
});

export const SOUND = {};

export const INVITE = {};
