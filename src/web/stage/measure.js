// Widths of texts in em, measured on a canvas: no layout, and valid for any size.

const PX = 100;
/** Widths that are kept of a font. */
const MOST = 20_000;
/** Maps from texts to widths, by font. */
const widths = new Map();
let pen = null;
let family = "";

/** Forgets all widths, for example because another font was loaded. */
export function forgetWidths() {
  widths.clear();
  pen = null;
}

/**
 * Width of a text in em of its own size.
 * @param {string} text @param {string | number} [weight] @param {string} [fonts] a font family; by default the page's
 */
export function emWidth(text, weight = 500, fonts = "") {
  if (text === "") return 0;
  const font = `${weight} ${fonts}`;
  let known = widths.get(font);
  if (!known || known.size > MOST) widths.set(font, (known = new Map()));
  let width = known.get(text);
  if (width === undefined) {
    if (!pen) {
      pen = document.createElement("canvas").getContext("2d");
      ({ fontFamily: family } = getComputedStyle(document.documentElement));
    }
    pen.font = `${weight} ${PX}px ${fonts || family}`;
    width = pen.measureText(text).width / PX;
    known.set(text, width);
  }
  return width;
}
