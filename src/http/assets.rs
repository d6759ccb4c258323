//! The files of `src/web`, carried in the binary.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use bandsync_engine::io::Answer;

/// A file as it is served.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Every file, by the path that it is served at. A new file of `src/web` needs its line here.
const ASSETS: [Asset; 14] = [
    Asset { path: "/", content_type: super::HTML, body: include_bytes!("../web/index.html") },
    Asset { path: "/app.js", content_type: JS, body: include_bytes!("../web/app.js") },
    Asset { path: "/bandsync.js", content_type: JS, body: include_bytes!("../web/bandsync.js") },
    Asset { path: "/clock.js", content_type: JS, body: include_bytes!("../web/clock.js") },
    Asset { path: "/timeline.js", content_type: JS, body: include_bytes!("../web/timeline.js") },
    Asset { path: "/dashboard", content_type: super::HTML, body: include_bytes!("../web/dashboard.html") },
    Asset { path: "/dashboard.js", content_type: JS, body: include_bytes!("../web/dashboard.js") },
    Asset { path: "/dashboard-plot.js", content_type: JS, body: include_bytes!("../web/dashboard-plot.js") },
    Asset { path: "/dashboard.css", content_type: CSS, body: include_bytes!("../web/dashboard.css") },
    Asset { path: "/protocol", content_type: super::HTML, body: include_bytes!("../web/protocol.html") },
    Asset { path: "/protocol.js", content_type: JS, body: include_bytes!("../web/protocol.js") },
    Asset { path: "/protocol.css", content_type: CSS, body: include_bytes!("../web/protocol.css") },
    Asset { path: "/style.css", content_type: CSS, body: include_bytes!("../web/style.css") },
    Asset { path: "/favicon.svg", content_type: "image/svg+xml", body: include_bytes!("../web/favicon.svg") },
];

/// The files with their tags.
pub struct Assets {
    tags: [String; ASSETS.len()],
}

impl Assets {
    pub fn embedded() -> Self {
        Self { tags: ASSETS.map(|asset| tag(asset.body)) }
    }

    /// The file at `path`, or that the asker has it already: `if_none_match` lists what it has.
    pub fn answer(&self, path: &str, if_none_match: &str) -> Option<Answer> {
        let place = ASSETS.iter().position(|asset| asset.path == path)?;
        let (asset, tag) = (&ASSETS[place], &self.tags[place]);
        let known = |other: &str| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag;
        let unchanged = if_none_match.split(',').any(|other| known(other.trim()));
        let headers = vec![
            (Cow::Borrowed("Content-Type"), Cow::Borrowed(asset.content_type)),
            (Cow::Borrowed("ETag"), Cow::Owned(tag.clone())),
            // To be kept, but asked about each time: after an update everybody has the new files at once.
            (Cow::Borrowed("Cache-Control"), Cow::Borrowed("no-cache")),
        ];
        let (status, body) = if unchanged { (304, [].as_slice()) } else { (200, asset.body) };
        Some(Answer { status, headers, body: Cow::Borrowed(body) })
    }
}

/// Changes when the content does. A hasher made like this has fixed keys, so a restart changes no tag.
fn tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_file_has_a_path_and_a_tag_of_its_own() {
        let assets = Assets::embedded();
        for (place, asset) in ASSETS.iter().enumerate() {
            assert!(!asset.body.is_empty(), "{}", asset.path);
            assert!(ASSETS[..place].iter().all(|other| other.path != asset.path), "{}", asset.path);
            assert!(!assets.tags[..place].contains(&assets.tags[place]), "{}", asset.path);
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = match name.as_str() {
                "index.html" => "/".to_owned(),
                "dashboard.html" => "/dashboard".to_owned(),
                "protocol.html" => "/protocol".to_owned(),
                name => format!("/{name}"),
            };
            // Tells tools that the folder holds ES modules; no browser asks for it.
            let for_tools = name == "package.json";
            assert!(
                for_tools || ASSETS.iter().any(|asset| asset.path == path),
                "{name} has no line in ASSETS"
            );
        }
    }

    #[test]
    fn a_tag_depends_on_every_byte_and_on_nothing_else() {
        assert_eq!(tag(b"abc"), tag(b"abc"));
        assert_ne!(tag(b"abc"), tag(b"abd"));
        assert_ne!(tag(b""), tag(b"\0"));
    }
}
