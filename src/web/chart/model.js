// The types of a chart: the result of reading a song's text. All of them are plain data.
//
// `parseSongs` in chordpro.js makes charts. A chart never contains markup: a part's text is text, and its spans say
// which of it is bold or italic.

/**
 * A song.
 *
 * @typedef {object} Chart
 * @property {string} title "" if absent, like the five below
 * @property {string} subtitle
 * @property {string} artist several are joined with ", "
 * @property {string} composer
 * @property {string} lyricist
 * @property {string} copyright
 * @property {string} key as written; "" if unknown
 * @property {number} capo the fret; 0 for none
 * @property {number | null} tempo as written
 * @property {Meter | null} time
 * @property {number | null} durationMs
 * @property {1 | 3 | null} felt 3 if the tempo counts dotted beats (`x_felt`), 1 if it counts the beats of the meter; null
 *   leaves it to the tempo
 * @property {"letters" | "german"} notation of the chords in the file
 * @property {number | null} barsPerLine (`x_bars_per_line`)
 * @property {number} transpose semitones, of a `{transpose}` before the first sounding line
 * @property {string[] | null} flow names of sections or shorthand in playing order, repeats written out
 * @property {Record<string, string>} meta other metadata. The object has no prototype
 * @property {Section[]} sections in the order of the file
 * @property {Problem[]} problems in the order of lines, at most 200
 * @property {string} text the source, unchanged
 */

/**
 * @typedef {object} Meter
 * @property {number} num
 * @property {number} den
 */

/**
 * A section. Text outside any section is a section of kind "text" without a name.
 *
 * A section that calls another one plays the lines of that one. Its own `lines` hold only the changes (key, tempo,
 * time, transpose) that stand between the section before and the call: they take effect before the called lines.
 *
 * @typedef {object} Section
 * @property {string} kind "verse", "chorus", "bridge", "tab", "grid", "text" or the word after `start_of_`
 * @property {string} name the label to show, without "x2"; made up if the file has none; "" only for kind "text"
 * @property {number} times how often it is played in a row ("x2" in the label)
 * @property {number} calls the index of the section that is played again (`{chorus}`), or -1
 * @property {number[] | null} bars the numbers of `x_bars`: bars of each sounding line, the last one repeats
 * @property {number[] | null} beats the numbers of `x_beats`, likewise
 * @property {string} only instrument selector of `{start_of_verse-guitar}`, or "". Such a section is shown to members
 *   with that instrument. It is an alternative to other sections, so it should take no time
 * @property {number} source line of the file where it begins, from 1
 * @property {Line[]} lines
 */

/**
 * A line. Lines of kind words, chords, grid and tab sound; the others take no time.
 *
 * @typedef {object} Line
 * @property {"words" | "chords" | "grid" | "tab" | "comment" | "empty" | "note" | "change"} kind "chords" has marks and
 *   no words; "note" stands for content that is not shown, such as "[abc: not shown]"
 * @property {Part[]} parts of words, chords and grid; otherwise empty. Their texts joined are the visible text
 * @property {string} text of tab, comment and note; otherwise ""
 * @property {"" | "italic" | "box" | "highlight"} style of a comment
 * @property {string} only instrument selector, or "". "keys" means only members with keys, "keys!" all others
 * @property {Change | null} change of kind "change"
 * @property {number} source line of the file, from 1
 */

/**
 * What changes from here on. One field is set.
 *
 * @typedef {object} Change
 * @property {string} [key]
 * @property {number} [tempo]
 * @property {Meter} [time]
 * @property {number} [transpose] semitones, which replace those that held before
 */

/**
 * A text with the mark that stands over its first letter. Either may be missing.
 *
 * @typedef {object} Part
 * @property {string} text
 * @property {{ text: string, bold?: true, italic?: true }[]} [spans] only if the part has markup; joined they are `text`
 * @property {Mark | null} mark
 */

/**
 * A chord as written, readable or not ("N.C." too); an annotation (also `%` in a grid, the bar before again); a bar
 * line such as "|", "||", "|:", ":|" or "|1"; or a beat, "." or "/".
 *
 * @typedef {object} Mark
 * @property {"chord" | "annotation" | "bar" | "beat"} kind
 * @property {string} text
 * @property {true} [joined] of a chord in a grid that shares its cell with the mark before ("C~G")
 */

/**
 * A fault in the text. It never hides anything: the line stays visible as text, unless it is a directive.
 *
 * @typedef {object} Problem
 * @property {number} line of the song's text, from 1
 * @property {string} code a key of `CHART.problems` in texts.js
 * @property {string} text the words at fault, at most 60 characters
 */

/** Kinds of lines that take time. */
export const SOUNDING = Object.freeze(["words", "chords", "grid", "tab"]);

/** The visible text of a line. */
export const visibleText = (line) => (line.parts.length > 0 ? line.parts.map((part) => part.text).join("") : line.text);

/** The lines that a section plays: its own, or those of the section that it calls. */
export const playedLines = (chart, section) =>
  (section.calls < 0 ? section : chart.sections[section.calls]).lines.filter((line) => SOUNDING.includes(line.kind));
