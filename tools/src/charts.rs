//! Charts that JavaScript has read, read again by an independent parser.
//!
//! A case is a line of JSON: a ChordPro text and what `src/web/chart/chordpro.js` found in it. The
//! crate chordsketch-chordpro must find the same metadata, sections and chords, each chord over the
//! same letter. It knows no time, no playing order and no grids, so these are not compared.
//! `tests/js/unit/make-charts.js` lists the charts that are read differently on purpose.

use std::fmt::{self, Debug};
use std::io::BufRead;

use chordsketch_chordpro::ast::{Directive, DirectiveKind, Line, LyricsLine, Song};
use chordsketch_chordpro::parse_multi_lenient;
use serde::Deserialize;

/// The reason why a comparison ends.
#[derive(Debug)]
pub enum Failure {
    /// A line cannot be read.
    Line {
        /// Its number, from 1.
        line: usize,
        /// The fault of the line.
        error: String,
    },
    /// The crate finds something else.
    Chart {
        /// The name of the chart, and of the part that differs.
        name: String,
        /// The part as JavaScript has read it.
        theirs: String,
        /// The part as the crate has read it.
        ours: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, error } => write!(f, "line {line}: {error}"),
            Self::Chart { name, theirs, ours } => {
                write!(f, "{name}: JavaScript reads {theirs}, the crate {ours}")
            }
        }
    }
}

/// Compares all cases, one a line. Returns the number of songs.
///
/// # Errors
/// The first line that cannot be read, or the first chart that differs.
pub fn compare(cases: impl BufRead) -> Result<u64, Failure> {
    let mut songs = 0;
    for (index, line) in cases.lines().enumerate() {
        let failed = |error: String| Failure::Line { line: index + 1, error };
        let line = line.map_err(|error| failed(error.to_string()))?;
        let case: Case = serde_json::from_str(&line).map_err(|error| failed(error.to_string()))?;
        songs += case.check()?;
    }
    Ok(songs)
}

/// A text with what JavaScript has read.
#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    songs: Vec<Read>,
}

/// A song as JavaScript has read it.
#[derive(Deserialize)]
struct Read {
    fields: Fields,
    sections: Vec<Section>,
    lines: Vec<Words>,
    tabs: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Fields {
    title: String,
    subtitle: String,
    artist: String,
    composer: String,
    lyricist: String,
    copyright: String,
    keys: Vec<String>,
    tempos: Vec<f64>,
    times: Vec<String>,
    capo: u32,
}

/// A section with its label: `Chorus x2` is "Chorus" and 2.
#[derive(Debug, Deserialize)]
struct Section {
    kind: String,
    label: String,
    times: u32,
}

impl PartialEq for Section {
    /// Compares a section of JavaScript with one of the crate, which makes no label up.
    fn eq(&self, ours: &Self) -> bool {
        let is_made_up = ours.label.is_empty() && self.times == ours.times;
        self.kind == ours.kind
            && (is_made_up || (&self.label, self.times) == (&ours.label, ours.times))
    }
}

impl Section {
    fn new(kind: &str, label: &str) -> Self {
        let times = label.rsplit_once(" x").and_then(|(_, times)| times.parse().ok()).unwrap_or(1);
        let label =
            if times > 1 { label.rsplit_once(" x").map_or(label, |(name, _)| name) } else { label };
        Self { kind: kind.to_owned(), label: label.to_owned(), times }
    }
}

/// A line of words, with its chords and the number of letters before each.
#[derive(Debug, Deserialize, PartialEq)]
struct Words {
    text: String,
    chords: Vec<(usize, String)>,
}

impl Case {
    /// Compares the songs, and returns their number.
    fn check(&self) -> Result<u64, Failure> {
        let parsed = parse_multi_lenient(&self.text);
        let all = parsed.songs();
        let mut songs: Vec<&Song> = all.iter().copied().filter(|song| has_content(song)).collect();
        if songs.is_empty() {
            songs.extend(all.last());
        }
        self.same("songs", &self.songs.len(), &songs.len())?;
        for (read, song) in self.songs.iter().zip(songs) {
            let walked = Walk::through(song);
            self.same("fields", &read.fields, &fields(song))?;
            self.all("section", &read.sections, &walked.sections)?;
            self.all("line", &read.lines, &walked.lines)?;
            self.all("tab", &read.tabs, &walked.tabs)?;
        }
        Ok(self.songs.len() as u64)
    }

    /// Compares two lists, so that the first entry that differs is reported.
    fn all<T: Debug + PartialEq>(
        &self,
        what: &str,
        theirs: &[T],
        ours: &[T],
    ) -> Result<(), Failure> {
        for at in 0..theirs.len().max(ours.len()) {
            self.same(&format!("{what} {}", at + 1), &theirs.get(at), &ours.get(at))?;
        }
        Ok(())
    }

    fn same<T: Debug + PartialEq>(&self, what: &str, theirs: &T, ours: &T) -> Result<(), Failure> {
        if theirs == ours {
            return Ok(());
        }
        Err(Failure::Chart {
            name: format!("{}, {what}", self.name),
            theirs: format!("{theirs:?}"),
            ours: format!("{ours:?}"),
        })
    }
}

/// Whether a song is more than what stands before the first `{new_song}`.
fn has_content(song: &Song) -> bool {
    song.lines.iter().any(|line| match line {
        Line::Lyrics(line) => !words(line).is_blank(),
        Line::Directive(directive) => directive.name != "x_setlist",
        Line::Comment(..) | Line::Empty => false,
    })
}

fn fields(song: &Song) -> Fields {
    let meta = &song.metadata;
    let number = |text: &String| text.parse().unwrap_or(f64::NAN);
    let capo = meta.capo.as_deref().and_then(|capo| capo.parse().ok());
    Fields {
        title: meta.title.clone().unwrap_or_default(),
        subtitle: meta.subtitles.first().cloned().unwrap_or_default(),
        artist: meta.artists.join(", "),
        composer: meta.composers.join(", "),
        lyricist: meta.lyricists.join(", "),
        copyright: meta.copyright.clone().unwrap_or_default(),
        keys: meta.keys.clone(),
        tempos: meta.tempos.iter().map(number).collect(),
        times: meta.times.clone(),
        capo: capo.unwrap_or(0),
    }
}

/// The parts of a song in its order.
#[derive(Default)]
struct Walk {
    sections: Vec<Section>,
    lines: Vec<Words>,
    tabs: Vec<String>,
    /// The kind of the section that is open.
    open: Option<String>,
    /// The kind of the section whose lines are text to the letter. It may be inside the open one.
    verbatim: Option<String>,
}

impl Walk {
    fn through(song: &Song) -> Self {
        let mut walk = Self::default();
        for line in &song.lines {
            match line {
                Line::Directive(directive) => walk.obey(directive),
                Line::Lyrics(line) => walk.read(words(line)),
                Line::Comment(..) | Line::Empty => {}
            }
        }
        walk
    }

    fn obey(&mut self, directive: &Directive) {
        if directive.kind == DirectiveKind::Chorus {
            self.sections.push(Section::new("call", &label(directive)));
        } else if let Some(kind) = directive.name.strip_prefix("start_of_") {
            let is_shown = !matches!(kind, "abc" | "ly" | "svg" | "textblock" | "musicxml");
            let is_verbatim = !is_shown || matches!(kind, "tab" | "grid");
            if is_shown && !(is_verbatim && self.open.is_some()) {
                self.sections.push(Section::new(kind, &label(directive)));
                self.open = Some(kind.to_owned());
            }
            self.verbatim = is_verbatim.then(|| kind.to_owned());
        } else if let Some(kind) = directive.name.strip_prefix("end_of_") {
            self.verbatim = None;
            if self.open.as_deref() == Some(kind) {
                self.open = None;
            }
        }
    }

    fn read(&mut self, line: Words) {
        match self.verbatim.as_deref() {
            None if !line.is_blank() => self.lines.push(line),
            Some("tab") => self.tabs.push(line.text),
            _ => {}
        }
    }
}

impl Words {
    fn is_blank(&self) -> bool {
        self.chords.is_empty() && self.text.trim().is_empty()
    }
}

fn words(line: &LyricsLine) -> Words {
    let mut read = Words { text: String::new(), chords: Vec::new() };
    for segment in &line.segments {
        if let Some(chord) = &segment.chord {
            read.chords.push((read.text.chars().count(), chord.name.clone()));
        }
        read.text.push_str(&segment.text);
    }
    read
}

/// Returns the label of a section, without attributes.
fn label(directive: &Directive) -> String {
    let heading = directive.section_heading().and_then(|heading| heading.value);
    let value = heading.or_else(|| directive.value.clone()).unwrap_or_default();
    let quoted = value.split_once("label=").and_then(|(_, rest)| {
        let quote = rest.chars().next()?;
        rest[1..].split(quote).next().map(str::to_owned)
    });
    quoted.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = r#"{"name":"Sea","text":"{title: Sea}\n{key: G}\n{sov: One}\n[G]la [C]lo\n{eov}\n{sot}\ne|-1-\n{eot}\n",
        "songs":[{"fields":{"title":"Sea","subtitle":"","artist":"","composer":"","lyricist":"","copyright":"",
        "keys":["G"],"tempos":[],"times":[],"capo":0},"sections":[{"kind":"verse","label":"One","times":1},{"kind":"tab","label":"Tab","times":1}],
        "lines":[{"text":"la lo","chords":[[0,"G"],[3,"C"]]}],"tabs":["e|-1-"]}]}"#;

    fn line(case: &str) -> String {
        case.replace('\n', " ")
    }

    #[test]
    fn equal_charts_are_counted() {
        let two = format!("{}\n{}\n", line(CASE), line(CASE));
        assert!(matches!(compare(two.as_bytes()), Ok(2)));
    }

    #[test]
    fn one_wrong_part_of_any_kind_is_found() {
        let wrong = [
            (r#""title":"Sea""#, r#""title":"See""#, "Sea, fields: JavaScript reads"),
            (r#""kind":"verse""#, r#""kind":"chorus""#, "Sea, section 1: JavaScript reads"),
            (r#"[3,"C"]"#, r#"[4,"C"]"#, "Sea, line 1: JavaScript reads"),
            (r#"["e|-1-"]"#, "[]", "Sea, tab 1: JavaScript reads None"),
            (r#"la [C]lo\n{eov}"#, r#"la [C]lo\n{eov}\n{ns}\nla"#, "Sea, songs: JavaScript reads"),
        ];
        for (right, wrong, message) in wrong {
            let case = line(CASE).replacen(right, wrong, 1);
            assert_ne!(case, line(CASE));
            let failure = compare(case.as_bytes()).expect_err(wrong);
            assert!(failure.to_string().starts_with(message), "{failure}");
        }
    }

    #[test]
    fn a_malformed_line_is_reported_by_its_number() {
        let failure = compare(format!("{}\n{{}}\n", line(CASE)).as_bytes()).expect_err("{}");
        assert!(failure.to_string().starts_with("line 2: "), "{failure}");
    }
}
