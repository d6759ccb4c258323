// The songs of the gig, and where their bars, sections and lines are. Both were written by hand: the tables below don't
// come from the code that they test.

/** Lines one after the other, each with its length in beats: `[[beats, count], …]`. */
const linesOf = (...runs) => runs.flatMap(([beats, count]) => Array.from({ length: count }, () => beats));

/**
 * Where everything is in a song.
 * @param {{ meter: number[][], lines: number[], sections: [string, number][] }} song `meter`: `[beat, beats of a bar]`;
 *   `lines`: beats of each; `sections`: name and number of lines, in playing order
 */
function score(title, { meter = [[0, 4]], lines, sections }) {
  const starts = [0];
  for (const beats of lines) starts.push(starts.at(-1) + beats);
  const end = starts.pop();
  let line = 0;
  const placed = sections.map(([name, count]) => {
    const from = starts[line];
    line += count;
    return { name, from, to: starts[line] ?? end };
  });
  return { title, meter, end, lines: starts.map((from, i) => ({ from, to: starts[i + 1] ?? end })), sections: placed };
}

const verse = (name, words) => `{start_of_verse: ${name}}\n${words.join("\n")}\n{end_of_verse}\n\n`;

/** 80 beats in 4/4 at 120: a verse, a chorus, a verse, the chorus again and an outro of four bars each. */
export const VAN = `{title: Van at Night}
{artist: The Tests}
{key: G}
{tempo: 120}
{time: 4/4}
{x_bars_per_line: 1}

${verse("Verse 1", [
  "[G]Load the [D/F#]last [Em]amp in the [C]rain",
  "[G]count the [D]cases [G]once again",
  "[Em]somebody [C]left the [G]lights [D]on",
  "[C]nobody [D]minds, the [G]night is long",
])}{start_of_chorus: Chorus}
[C]One, two, [G]hold it with me
[D]nobody's [Em]late if we
[C]all come in [G]free
[D]three, [D]four
{end_of_chorus}

${verse("Verse 2", [
  "[G]Ben has the [D/F#]map and [Em]Cleo the [C]keys",
  "[G]Dee has a [D]song for [G]each of these",
  "[Em]miles are [C]bars and [G]bars are [D]miles",
  "[C]everyone [D]sleeps and [G]one of us smiles",
])}{chorus}

{start_of_bridge: Outro}
[G]Home by the [D]morning
[Em]home by the [C]light
[G]home by the [D]morning
[G]good [G]night
{end_of_bridge}
`;

/** 60 beats, which are eighths: four bars of 6/8, then four of 9/8, at 100 dotted quarters. */
export const HARBOUR = `{title: Harbour}
{key: Am}
{tempo: 100}
{time: 6/8}
{x_bars_per_line: 1}

${verse("Swell", ["[Am]Slow boats [F]come in", "[C]ropes on the [G]pier", "[Am]hands in the [F]rain", "[G]nobody here"])}{time: 9/8}
${verse("Tide", ["[F]Hold the [G]light, hold it [Am]here", "[F]hold the [G]light, hold it [Am]near", "[F]over the [G]water, [Am]over the wall", "[F]one boat [G]is all"])}`;

export const LANTERN = `Lantern
The Lamps
Key: G
Tempo: 84

Verse 1:
[G]Hold the lantern [D]low,
[Em]let the river [C]go.
`;
export const CHAPEL = `<?xml version="1.0" encoding="UTF-8"?>
<song><title>Chapel Road</title><author>A. Nother</author><key>D</key><lyrics>[V1]
.D            G
 Walk me home on chapel road
.A            D
 carry half of what I owe
</lyrics></song>
`;
export const CAFE = "Café Lights\n\nC         G\nCafé lights are low\nAm        F\nnaïve as I know\n";

/** Two bars a line where nothing says how long a line is. */
export const SCORES = Object.fromEntries([
  score("Van at Night", {
    lines: linesOf([4, 20]),
    sections: [["Verse 1", 4], ["Chorus", 4], ["Verse 2", 4], ["Chorus", 4], ["Outro", 4]],
  }),
  score("Harbour", { meter: [[0, 6], [24, 9]], lines: linesOf([6, 4], [9, 4]), sections: [["Swell", 4], ["Tide", 4]] }),
  score("Lantern", { lines: linesOf([8, 2]), sections: [["Verse 1", 2]] }),
  score("Chapel Road", { lines: linesOf([8, 2]), sections: [["Verse 1", 2]] }),
  score("Café Lights", { lines: linesOf([8, 2]), sections: [["Verse 1", 2]] }),
].map((one) => [one.title, one]));

/** The text in Windows-1252; all its letters are in Latin-1 too. */
export const inWindows1252 = (text) => Buffer.from(text, "latin1");
