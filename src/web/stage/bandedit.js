// An edit of one song for the whole band that is made of its newest text, so that it gives way to edits of others: both
// are wanted.

import { shiftOf } from "../chart/shift.js";
import { readSong } from "../chart/unfold.js";
import { songOf } from "./files.js";

/** Edits of others to which one edit gives way. */
const TRIES = 3;

/** The text of a song as the band has it; undefined while it is on its way. */
export const bandBodyOf = (song) => song?.bandBody ?? song?.body;

/**
 * Changes the chart of a song for all. Resolves with whether it was applied.
 * @param {import("./model.js").Stage} stage
 * @param {string} songId
 * @param {(body: string) => string} change makes the new text of the newest one
 * @param {{ source?: Element, movesLines?: boolean }} [options] the button that shows progress, and whether lines get
 *   other beats, so that the line that sounds must be kept
 */
export async function editForBand(stage, songId, change, { source, movesLines = false } = {}) {
  let song = stage.songById(songId);
  for (let tries = 1; bandBodyOf(song) !== undefined; tries += 1) {
    const body = change(bandBodyOf(song));
    const made = songOf(songId, body, { title: song.title });
    const shift = movesLines ? shiftHere(stage, songId, bandBodyOf(song), body) : 0;
    let theirs = null;
    const onError = (error) => {
      if (error.code !== "conflict" || !error.song || tries >= TRIES) return false;
      theirs = error.song;
      return true;
    };
    const ops = [{ op: "replace", song: made, was: song.revision, ...(shift !== 0 && { shift }) }];
    if (await stage.command(stage.band.editSetlist(ops), { source, onError })) return true;
    if (!theirs) return false;
    song = theirs;
  }
  return false;
}

/** By how many beats the line that sounds moves. */
function shiftHere(stage, songId, was, is) {
  const beat = stage.song?.id === songId ? stage.band.beat() : null;
  if (!beat) return 0;
  const [from, to] = [readSong(was), readSong(is)];
  return Math.trunc(shiftOf(from.chart, from.map, to.chart, to.map, beat.songBeat));
}
