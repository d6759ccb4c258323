// A set list of our own for tests and pictures: words and chords were written for this repository.
import { parseChart } from "../../../src/web/chart/chordpro.js";
import { songFields, songMap } from "../../../src/web/chart/map.js";
import { CHART as DEMO } from "../../../src/web/stage/demo.js";

const CHARTS = {
  "van-at-midnight": DEMO,
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
