// Directions and joins of scripts, for chords that stand between the letters of a word.

const RIGHT_TO_LEFT = /[\u0590-\u08ff\u200f\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const STRONG = /[\p{L}\u200e\u200f]/u;
const MARK = /\p{M}/u;
const ARABIC = /\p{Script=Arabic}/u;
/** Arabic letters that join only to the letter before them, and those that never join. */
const NO_JOIN_AFTER = /[اأإآٱٲٳٵدذڈډڊڋڌڍڎڏڐرزڑڒړڔڕږڗژڙوؤۄۅۆۇۈۉۊۋۏۀةىءےۓ\s]/u;
/** Scripts that are written without spaces. A line may break between their letters. */
const NO_SPACES = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

/** Direction of the first letter of a text; `fallback` without letters. */
export function directionOf(text, fallback = "ltr") {
  for (const letter of text) if (STRONG.test(letter)) return RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
  return fallback;
}

/** Whether the letters on both sides of a place in a word are joined in handwriting, as in Arabic. */
export function joins(before, after) {
  const next = [...after][0] ?? "";
  const last = [...before].reverse().find((letter) => !MARK.test(letter)) ?? "";
  return ARABIC.test(next) && ARABIC.test(last) && !NO_JOIN_AFTER.test(last) && next !== "ء";
}

/** Small kana and long marks, which belong to the letter before them. */
const STICKS = /[ーゃゅょっャュョッァィゥェォぁぃぅぇぉ]/u;
const OPENS = /[（「『【〈《(]$/u;

/** Splits a word where a line may break inside it: between letters of scripts without spaces. */
export function syllables(word) {
  if (!NO_SPACES.test(word)) return [word];
  const found = [];
  for (const letter of word) {
    const last = found.at(-1) ?? "";
    const isSign = STICKS.test(letter) || /[\p{M}\p{P}]/u.test(letter);
    const breaks = !STICKS.test(letter) && (NO_SPACES.test(letter) || (NO_SPACES.test(last) && !isSign));
    if (last === "" || (breaks && !OPENS.test(last))) found.push(letter);
    else found[found.length - 1] += letter;
  }
  return found;
}
