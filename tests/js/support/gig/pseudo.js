// A pseudo-language: each text with accents, and 40 % longer. Placeholders such as {name} stay.

const ACCENTS = { a: "á", c: "ç", e: "é", i: "í", n: "ñ", o: "ö", u: "ü", y: "ý", A: "Á", C: "Ç", E: "É", I: "Í", N: "Ñ", O: "Ö", U: "Ü", Y: "Ý" };
/** Begins what was added. No text of the page has it. */
export const MARK = "ŧ";
const LONGER = 0.4;
/** Letters of a word that is added. */
const WORD = 5;

const accented = (text) => text.replace(/[aceinouyACEINOUY]/g, (letter) => ACCENTS[letter]);

/** The text in the pseudo-language. Texts without two letters in a row, such as signs, stay as they are. */
export function pseudo(text) {
  if (!/\p{L}{2}/u.test(text.replace(/\{\w+\}/g, ""))) return text;
  const parts = text.split(/(\{\w+\})/);
  const long = parts.map((part, i) => (i % 2 ? part : accented(part))).join("");
  const letters = parts.filter((_, i) => i % 2 === 0).join("").length;
  const more = MARK.repeat(Math.max(1, Math.ceil(letters * LONGER)));
  // In words, as a language has them, so that a line can be broken.
  return long + more.replace(new RegExp(`(${MARK}{${WORD}})(?=${MARK})`, "g"), "$1 ");
}

/** The source of a module with its string literals in the pseudo-language, where `isText(literal)` says so. */
export function pseudoSource(source, texts) {
  // Longest first, so that no text is replaced inside of another one.
  return source.replace(/"(?:[^"\\\n]|\\.)*"/g, (literal) => {
    let value;
    try {
      value = JSON.parse(literal);
    } catch {
      return literal;
    }
    return texts.has(value) ? JSON.stringify(pseudo(value)) : literal;
  });
}

/** All texts of the exported objects of texts.js. */
export function textsOf(module) {
  const found = new Set();
  const take = (value) => {
    if (typeof value === "string") found.add(value);
    else if (value && typeof value === "object") Object.values(value).forEach(take);
  };
  for (const value of Object.values(module)) take(value);
  return found;
}
