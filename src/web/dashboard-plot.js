// A plot of lines over time on a canvas, with a grid, round numbers at the side, and the values under the pointer.

const SIDE_MIN = 30; // px for the numbers at the left, more if they are longer
const GAP = 6; // px between them and the plot
const FOOT = 18; // px for the times below

/** The next greater round number whose half is round too. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10]) {
    if (step * power >= value * (1 - 1e-9)) return step * power;
  }
  return 10 * power;
}

/** A number in as few characters as possible. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${trim(value / 1e9)} G`;
  if (size >= 1e6) return `${trim(value / 1e6)} M`;
  if (size >= 1e4) return `${trim(value / 1e3)} k`;
  return trim(value);
}

function trim(value) {
  const size = Math.abs(value);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

export class Plot {
  /** `lines` are names; `mark` is a value to draw a dashed line at. Values that are null leave a gap. */
  constructor(parent, { title, unit, lines, mark, floor = 0 }) {
    Object.assign(this, { unit, lines, mark, floor, times: [], values: lines.map(() => []), at: null });
    const card = parent.appendChild(document.createElement("article"));
    card.className = "card plot";
    card.appendChild(document.createElement("h3")).textContent = title;
    const legend = card.appendChild(document.createElement("p"));
    legend.className = "legend";
    this.numbers = lines.map((name, i) => {
      const item = legend.appendChild(document.createElement("span"));
      item.className = `line-${i + 1}`;
      item.append(`${name} `);
      return item.appendChild(document.createElement("b"));
    });
    this.items = [...legend.children];
    this.canvas = card.appendChild(document.createElement("canvas"));
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Plot: ${title}, ${lines.join(", ")}; the newest values are in the line above`);
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    addEventListener("theme", () => this.draw());
  }

  /** `times` in ms of Unix time, rising; one list of as many values for each line. */
  show(times, values) {
    this.times = times;
    this.values = values;
    this.draw();
  }

  point(x) {
    this.at = x;
    this.draw();
  }

  draw() {
    const { canvas, times } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    const look = (item, name) => getComputedStyle(item).getPropertyValue(name).trim();
    const ink = { grid: look(canvas, "--hair"), dim: look(canvas, "--coming") };

    const known = this.values.flat().filter((value) => value !== null);
    const highest = Math.max(this.floor, this.mark ?? 0, ...known);
    const top = roundUp(highest * 1.05);
    const [from, to] = [times[0] ?? 0, times.at(-1) ?? 1];
    const numbers = [0, 0.5, 1].map((part) => ({ value: top * part, text: this.words(top * part, part === 1) }));
    const side = Math.max(SIDE_MIN, ...numbers.map(({ text }) => Math.ceil(pen.measureText(text).width) + GAP + 1));
    const x = (time) => side + ((time - from) / Math.max(1, to - from)) * (width - side - 4);
    const y = (value) => 6 + (1 - value / top) * (height - FOOT - 10);

    this.canvas.dataset.side = String(side);
    this.grid(pen, ink, numbers, y, side, width);
    this.clock(pen, ink, from, to, side, width, height);
    if (this.mark !== undefined) {
      pen.strokeStyle = ink.dim;
      pen.setLineDash([4, 4]);
      stroke(pen, [[side, y(this.mark)], [width - 4, y(this.mark)]]);
      pen.setLineDash([]);
    }
    this.values.forEach((values, i) => {
      pen.strokeStyle = look(this.items[i], "--line");
      pen.lineWidth = 1.6;
      pen.lineJoin = "round";
      for (const run of runs(values)) {
        const path = run.map((place) => [x(times[place]), y(values[place])]);
        if (path.length === 1) path.push([path[0][0] + 1, path[0][1]]);
        stroke(pen, path);
        if (i === 0) shade(pen, path, y(0));
      }
    });
    this.readOut(pen, ink, x, height);
  }

  /** A number of the axis; the topmost has the unit. */
  words(value, withUnit) {
    return `${short(value)}${withUnit && this.unit ? ` ${this.unit}` : ""}`;
  }

  grid(pen, ink, numbers, y, side, width) {
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const { value, text } of numbers) {
      pen.strokeStyle = ink.grid;
      stroke(pen, [[side, y(value)], [width - 4, y(value)]]);
      pen.fillStyle = ink.dim;
      pen.fillText(text, side - GAP, y(value));
    }
  }

  clock(pen, ink, from, to, side, width, height) {
    if (to <= from) return;
    pen.fillStyle = ink.dim;
    pen.textBaseline = "alphabetic";
    const words = (time) => new Date(time).toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit", second: to - from < 600_000 ? "2-digit" : undefined });
    pen.textAlign = "left";
    pen.fillText(words(from), side, height - 3);
    pen.textAlign = "right";
    pen.fillText(words(to), width - 4, height - 3);
  }

  /** The values under the pointer, or the newest. */
  readOut(pen, ink, x, height) {
    let place = this.times.length - 1;
    if (this.at !== null && place >= 0) {
      place = this.times.reduce((best, time, i) => (Math.abs(x(time) - this.at) < Math.abs(x(this.times[best]) - this.at) ? i : best), 0);
      pen.strokeStyle = ink.dim;
      pen.lineWidth = 1;
      stroke(pen, [[x(this.times[place]), 4], [x(this.times[place]), height - FOOT]]);
    }
    this.numbers.forEach((number, i) => {
      const values = this.values[i];
      // The newest may be a gap, as members answer every few seconds only.
      const value = this.at === null ? values.findLast((one) => one !== null) : values[place];
      number.textContent = `${short(value)}${this.unit && value != null ? ` ${this.unit}` : ""}`;
    });
  }
}

/** The ranges of values that are drawn as one line: it bridges short gaps, but not long ones. */
function* runs(values) {
  let run = [];
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] === null) continue;
    if (run.length > 0 && i - run.at(-1) > 10) {
      yield run;
      run = [];
    }
    run.push(i);
  }
  if (run.length > 0) yield run;
}

function stroke(pen, path) {
  pen.beginPath();
  path.forEach(([x, y], i) => (i === 0 ? pen.moveTo(x, y) : pen.lineTo(x, y)));
  pen.stroke();
}

function shade(pen, path, ground) {
  pen.save();
  pen.globalAlpha = 0.12;
  pen.fillStyle = pen.strokeStyle;
  pen.beginPath();
  pen.moveTo(path[0][0], ground);
  for (const [x, y] of path) pen.lineTo(x, y);
  pen.lineTo(path.at(-1)[0], ground);
  pen.fill();
  pen.restore();
}
