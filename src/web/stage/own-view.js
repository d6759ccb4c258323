// What the settings of this browser's view mean for a song.

/** The view with what is set for one song. Key and capo belong to a song, and are kept by its id. */
export const ownView = (view, songId) => ({ ...view, ...view.perSong?.[songId] });

/** The notation in which a view names keys: numbers name chords, not keys. */
export const keyNotation = ({ notation }) => (notation === "nashville" ? "letters" : notation);
