// A set list of our own for tests and pictures: words and chords were written for this repository.
import { parseChart } from "../../../src/web/chart/chordpro.js";
import { songFields, songMap } from "../../../src/web/chart/map.js";

const CHARTS = {
  "van-at-midnight": `{title: Van at Midnight}
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
{chorus}
{start_of_verse: Outro}
{x_bars: 2}
[C]Same bar, [G]same breath,
[D]let it [G]ring.
{end_of_verse}
`,
  harbour: `{title: Harbour}
{key: Am}
{tempo: 92}
{time: 4/4}
{start_of_verse}
{x_bars: 2}
[Am]Slow boats come in with the [F]weather behind,
[C]ropes on the pier and the [G]evening to find,
{end_of_verse}
{start_of_chorus}
{x_bars: 2}
[F]Hold the light, [G]hold it here,
[Am]all of us home by the [F]end of the year.
{end_of_chorus}
`,
  "salt-and-summer": `{title: Salt and Summer}
{key: D}
{tempo: 60}
{time: 6/8}
{start_of_verse}
{x_bars: 2}
[D]Barefoot on boards that are [G]warm from the day,
[Bm]nothing to carry and [A]nothing to say,
{end_of_verse}
`,
  "last-bus": `{title: Last Bus}
{key: E}
{tempo: 138}
{start_of_verse}
[E]Run if you want to, the [A]driver won’t wait,
[B7]four in the morning and [E]nobody late.
{end_of_verse}
`,
};

/** The songs as a set list that `set_setlist` takes. */
export const setlist = (title = "Friday, Lighthouse") => ({
  title,
  songs: Object.entries(CHARTS).map(([id, body]) => {
    const chart = parseChart(body);
    return { id, format: "chordpro", body, ...songFields(chart, songMap(chart)) };
  }),
});
