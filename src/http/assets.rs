//! The files of `src/web`, embedded in the binary.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::LazyLock;

use bandsync_engine::io::HttpResponse;
use flate2::Compression;
use flate2::write::GzEncoder;

/// A file and its headers.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const TYPES: &str = "application/typescript; charset=utf-8";

/// The files of the library, which pages of every origin may import. They contain no secrets, and
/// which pages may connect is decided separately.
const LIBRARY: [&str; 6] =
    ["/bandsync.js", "/bandsync.d.ts", "/clock.js", "/protocol.d.ts", "/timeline.js", "/tokens.js"];

/// All files, by the path that they are served at. A new file of `src/web` needs a line here.
const ASSETS: [Asset; 17] = [
    Asset { path: "/", content_type: super::HTML, body: include_bytes!("../web/index.html") },
    Asset { path: "/app.js", content_type: JS, body: include_bytes!("../web/app.js") },
    Asset { path: "/bandsync.js", content_type: JS, body: include_bytes!("../web/bandsync.js") },
    Asset {
        path: "/bandsync.d.ts",
        content_type: TYPES,
        body: include_bytes!("../web/bandsync.d.ts"),
    },
    Asset {
        path: "/protocol.d.ts",
        content_type: TYPES,
        body: include_bytes!("../web/protocol.d.ts"),
    },
    Asset { path: "/clock.js", content_type: JS, body: include_bytes!("../web/clock.js") },
    Asset { path: "/timeline.js", content_type: JS, body: include_bytes!("../web/timeline.js") },
    Asset { path: "/tokens.js", content_type: JS, body: include_bytes!("../web/tokens.js") },
    Asset {
        path: "/dashboard",
        content_type: super::HTML,
        body: include_bytes!("../web/dashboard.html"),
    },
    Asset { path: "/dashboard.js", content_type: JS, body: include_bytes!("../web/dashboard.js") },
    Asset {
        path: "/dashboard-plot.js",
        content_type: JS,
        body: include_bytes!("../web/dashboard-plot.js"),
    },
    Asset {
        path: "/dashboard.css",
        content_type: CSS,
        body: include_bytes!("../web/dashboard.css"),
    },
    Asset {
        path: "/protocol",
        content_type: super::HTML,
        body: include_bytes!("../web/protocol.html"),
    },
    Asset { path: "/protocol.js", content_type: JS, body: include_bytes!("../web/protocol.js") },
    Asset { path: "/protocol.css", content_type: CSS, body: include_bytes!("../web/protocol.css") },
    Asset { path: "/style.css", content_type: CSS, body: include_bytes!("../web/style.css") },
    Asset {
        path: "/favicon.svg",
        content_type: "image/svg+xml",
        body: include_bytes!("../web/favicon.svg"),
    },
];

/// The files with their tags and compressed forms, made once.
static MADE: LazyLock<[Made; ASSETS.len()]> =
    LazyLock::new(|| ASSETS.map(|asset| Made::of(asset.body)));

/// The files, ready to be served.
pub struct Assets {
    made: &'static [Made],
}

/// Tag and compressed form of a file.
struct Made {
    tag: String,
    /// The compressed file with a tag of its own, since each form needs one; `None` if compression
    /// saves nothing.
    packed: Option<(String, Vec<u8>)>,
}

impl Assets {
    /// Returns the files that the binary was built with.
    pub fn embedded() -> Self {
        Self { made: &*MADE }
    }

    /// Returns the file at `path`, or status 304 if one of `if_none_match`, the client's tags, is
    /// current.
    pub fn answer(
        &self,
        path: &str,
        if_none_match: &str,
        takes_gzip: bool,
    ) -> Option<HttpResponse> {
        let index = ASSETS.iter().position(|asset| asset.path == path)?;
        let (asset, made) = (&ASSETS[index], &self.made[index]);
        let (tag, body, packed) = match &made.packed {
            Some((tag, packed)) if takes_gzip => (tag, packed.as_slice(), true),
            _ => (&made.tag, asset.body, false),
        };
        let known = |other: &str| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag;
        let unchanged = if_none_match.split(',').any(|other| known(other.trim()));
        let mut headers = vec![
            (Cow::Borrowed("Content-Type"), Cow::Borrowed(asset.content_type)),
            (Cow::Borrowed("ETag"), Cow::Owned(tag.clone())),
            // Clients keep files but ask each time, so after an update all of them have the new
            // files at once.
            (Cow::Borrowed("Cache-Control"), Cow::Borrowed("no-cache")),
            (Cow::Borrowed("Vary"), Cow::Borrowed("Accept-Encoding")),
        ];
        if LIBRARY.contains(&path) {
            let name = Cow::Borrowed("Access-Control-Allow-Origin");
            headers.push((name, Cow::Borrowed("*")));
        }
        if packed && !unchanged {
            headers.push((Cow::Borrowed("Content-Encoding"), Cow::Borrowed("gzip")));
        }
        let (status, body) = if unchanged { (304, [].as_slice()) } else { (200, body) };
        Some(HttpResponse { status, headers, body: Cow::Borrowed(body) })
    }
}

impl Made {
    fn of(body: &[u8]) -> Self {
        let packed =
            gzip(body, Compression::best()).filter(|packed| packed.len() < body.len() * 9 / 10);
        Self { tag: tag(body), packed: packed.map(|packed| (tag(&packed), packed)) }
    }
}

/// Compresses a body with gzip.
pub fn gzip(body: &[u8], level: Compression) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(body).and_then(|()| encoder.finish()).ok()
}

/// Returns the tag of a body. A hasher made like this has fixed keys, so a restart changes no tag.
fn tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    #[test]
    fn every_file_has_its_own_path_and_tag() {
        let assets = Assets::embedded();
        for (place, asset) in ASSETS.iter().enumerate() {
            assert!(!asset.body.is_empty(), "{}", asset.path);
            assert!(ASSETS[..place].iter().all(|other| other.path != asset.path), "{}", asset.path);
            let tags =
                |made: &Made| [Some(made.tag.clone()), made.packed.clone().map(|(tag, _)| tag)];
            let own = tags(&assets.made[place]).into_iter().flatten().collect::<Vec<_>>();
            let others = assets.made[..place].iter().flat_map(tags).flatten().collect::<Vec<_>>();
            assert!(own.iter().all(|tag| !others.contains(tag)), "{}", asset.path);
            assert_ne!(own.first(), own.get(1), "{}", asset.path);
        }
    }

    #[test]
    fn a_client_that_accepts_gzip_gets_the_same_file_in_fewer_bytes() {
        let assets = Assets::embedded();
        let header = |answer: &HttpResponse, name: &str| {
            answer
                .headers
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.to_string())
        };
        for asset in &ASSETS {
            let whole = assets.answer(asset.path, "", false).unwrap();
            let packed = assets.answer(asset.path, "", true).unwrap();
            assert_eq!(
                (header(&whole, "Content-Encoding"), whole.body.as_ref()),
                (None, asset.body)
            );
            for answer in [&whole, &packed] {
                assert_eq!(
                    header(answer, "Vary").as_deref(),
                    Some("Accept-Encoding"),
                    "{}",
                    asset.path
                );
            }
            if asset.body.len() > 1_000 {
                assert_eq!(
                    header(&packed, "Content-Encoding").as_deref(),
                    Some("gzip"),
                    "{}",
                    asset.path
                );
                assert!(packed.body.len() < asset.body.len() * 3 / 5, "{}", asset.path);
                let mut unpacked = Vec::new();
                flate2::read::GzDecoder::new(packed.body.as_ref())
                    .read_to_end(&mut unpacked)
                    .unwrap();
                assert_eq!(unpacked, asset.body, "{}", asset.path);
            }
            for (answer, takes_gzip) in [(whole, false), (packed, true)] {
                let tag = header(&answer, "ETag").unwrap();
                assert_eq!(assets.answer(asset.path, &tag, takes_gzip).unwrap().status, 304);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // The address of a page has no ending, and that of the first page is empty.
            let path = match name.strip_suffix(".html") {
                Some("index") => "/".to_owned(),
                Some(page) => format!("/{page}"),
                None => format!("/{name}"),
            };
            // The package for npm; browsers do not need these.
            let for_npm = ["package.json", "README.md"].contains(&name.as_str());
            assert!(
                for_npm || ASSETS.iter().any(|asset| asset.path == path),
                "{name} has no line in ASSETS"
            );
        }
    }

    #[test]
    fn pages_of_every_origin_may_import_the_library_and_no_other_file() {
        for asset in &ASSETS {
            let answer = Assets::embedded().answer(asset.path, "", false).unwrap();
            let is_shared =
                answer.headers.iter().any(|(name, _)| name == "Access-Control-Allow-Origin");
            assert_eq!(is_shared, LIBRARY.contains(&asset.path), "{}", asset.path);
        }
        for path in LIBRARY {
            assert!(ASSETS.iter().any(|asset| asset.path == path), "{path}");
        }
    }

    #[test]
    fn a_tag_depends_only_on_the_bytes() {
        assert_eq!(tag(b"abc"), tag(b"abc"));
        assert_ne!(tag(b"abc"), tag(b"abd"));
        assert_ne!(tag(b""), tag(b"\0"));
    }
}
