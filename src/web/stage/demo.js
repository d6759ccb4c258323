// The song that the page offers to try: our own, words and chords.

import { songFields } from "../chart/map.js";
import { readSong } from "../chart/unfold.js";

/** The chart. */
export const CHART = `{title: Van at Midnight}
{artist: Demo}
{key: G}
{tempo: 120}
{time: 4/4}

{start_of_verse: Intro}
{x_bars: 4}
[G] [D] [Em] [C]
{end_of_verse}

{start_of_verse: Verse 1}
{x_bars: 2}
[G]Load the last amp in the [D]rain,
[Em]one more town with a [C]borrowed name,
[G]strings gone dull and the [D]heater dead,
[Em]still got the count-in [C]going round my head.
{end_of_verse}

{start_of_chorus: Chorus}
{x_bars: 2}
[C]One, two, [G]hold it with me,
[D]nobody’s late if we [Em]all come in free,
[C]keep one light at the [G]side of the stage,
[Am]same bar, same breath, [D]same page.
{end_of_chorus}

{start_of_verse: Verse 2}
{x_bars: 2}
[G]Somebody’s phone is the [D]only moon,
[Em]half of us guessing the [C]end of the tune,
[G]you lift a hand and the [D]whole room leans,
[Em]now I know what the [C]silence means.
{end_of_verse}

{start_of_verse: Outro}
{x_bars: 2}
[C]Same bar, [G]same breath,
[D]let it [G]ring.
{end_of_verse}
`;

/** The demo as a song of a set list, with an id of its own. */
export function demoSong() {
  const id = `demo-${Date.now().toString(36)}`;
  const { chart, map } = readSong(CHART);
  return { id, format: "chordpro", body: CHART, ...songFields(chart, map) };
}
