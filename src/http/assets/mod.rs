//! The files of `src/web`, embedded in the binary.
//!
//! Each file is served under its own path, and clients ask each time whether it has changed. The
//! stage page itself is served with its modules joined into one script, those of the library
//! included, and its styles into one file. Their names contain a version, so clients keep them and
//! never ask. `tools/embed.rs` lists the files when the server is built.

mod bundle;
mod module;
mod page;
mod scan;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::LazyLock;

use bandsync_engine::io::HttpResponse;
use flate2::Compression;
use flate2::write::GzEncoder;

use bundle::Script;
use scan::Trouble;

include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// A file, ready to be served.
struct Asset {
    content_type: &'static str,
    body: Cow<'static, [u8]>,
    tag: String,
    /// The compressed file with a tag of its own, since each form needs one; `None` if compression
    /// saves nothing. Browsers accept Brotli only over TLS, so gzip is the only form.
    packed: Option<(String, Vec<u8>)>,
    /// Whether the name contains the version, so that the file never changes.
    is_lasting: bool,
}

/// The files of the library, which pages of every origin may import. They contain no secrets, and
/// which pages may connect is decided separately.
const LIBRARY: [&str; 6] =
    ["/bandsync.js", "/bandsync.d.ts", "/clock.js", "/protocol.d.ts", "/timeline.js", "/tokens.js"];

/// Whether browsers need a file of `src/web`: not the package's description, and no README.
fn is_served(path: &str) -> bool {
    path != "package.json" && !path.ends_with(".md")
}

/// Digits of the version in names.
const VERSION_DIGITS: usize = 10;

/// The files by the path that they are served at, made once. A test makes them too, so that a file
/// that cannot be joined is found there.
static MADE: LazyLock<BTreeMap<String, Asset>> =
    LazyLock::new(|| make(&FILES).unwrap_or_else(|trouble| panic!("{trouble}")));

/// The files, ready to be served.
pub struct Assets {
    made: &'static BTreeMap<String, Asset>,
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
        let asset = self.made.get(path)?;
        let (tag, body, packed) = match &asset.packed {
            Some((tag, packed)) if takes_gzip => (tag, packed.as_slice(), true),
            _ => (&asset.tag, asset.body.as_ref(), false),
        };
        let known = |other: &str| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag;
        let unchanged = if_none_match.split(',').any(|other| known(other.trim()));
        // Clients keep other files but ask each time, so after an update all of them have the new
        // files at once.
        let keeping = if asset.is_lasting { LASTING } else { "no-cache" };
        let mut headers = vec![
            (Cow::Borrowed("Content-Type"), Cow::Borrowed(asset.content_type)),
            (Cow::Borrowed("ETag"), Cow::Owned(tag.clone())),
            (Cow::Borrowed("Cache-Control"), Cow::Borrowed(keeping)),
            (Cow::Borrowed("Vary"), Cow::Borrowed("Accept-Encoding")),
        ];
        if LIBRARY.contains(&path) {
            let name = Cow::Borrowed("Access-Control-Allow-Origin");
            headers.push((name, Cow::Borrowed("*")));
        }
        if path == "/" {
            // Safari plays a film only from a server that answers parts of it, or from a blob.
            let policy = Cow::Borrowed("media-src 'self' blob:");
            headers.push((Cow::Borrowed("Content-Security-Policy"), policy));
        }
        if packed && !unchanged {
            headers.push((Cow::Borrowed("Content-Encoding"), Cow::Borrowed("gzip")));
        }
        let (status, body) = if unchanged { (304, [].as_slice()) } else { (200, body) };
        Some(HttpResponse { status, headers, body: Cow::Borrowed(body) })
    }
}

/// For files whose names contain the version: a year, the longest time that caches keep.
const LASTING: &str = "public, max-age=31536000, immutable";

impl Asset {
    fn of(path: &str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        let body = body.into();
        let packed =
            gzip(&body, Compression::best()).filter(|packed| packed.len() < body.len() * 9 / 10);
        let packed = packed.map(|packed| (tag(&packed), packed));
        let content_type = content_type(path);
        Self { content_type, tag: tag(&body), body, packed, is_lasting: false }
    }
}

/// Returns the type of a file by its ending.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => super::HTML,
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "ts" => "application/typescript; charset=utf-8",
        "json" => super::JSON,
        "webmanifest" => "application/manifest+json; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webm" => "video/webm",
        "mp4" => "video/mp4",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Returns the path at which a file is served. The address of a page has no ending, and that of the
/// first page is empty.
fn address(path: &str) -> String {
    match path.strip_suffix(".html") {
        Some("index") => "/".to_owned(),
        Some(page) => format!("/{page}"),
        None => format!("/{path}"),
    }
}

/// Makes what is served of the files of `src/web`, which are given with their paths there.
///
/// # Errors
/// A file of the stage page that cannot be joined.
fn make(files: &[(&str, &'static [u8])]) -> Result<BTreeMap<String, Asset>, Trouble> {
    let mut made: BTreeMap<String, Asset> = files
        .iter()
        .filter(|(path, _)| is_served(path))
        .map(|(path, body)| (address(path), Asset::of(path, *body)))
        .collect();
    // Pictures and films have no text, but they exist.
    let find = |path: &str| {
        let (_, body) = files.iter().find(|(other, _)| *other == path)?;
        Some(std::str::from_utf8(body).unwrap_or_default())
    };
    let Some(index) = find("index.html") else { return Ok(made) };
    let version = version(files);
    let named = page::named(index)?;
    let missing = named.styles.iter().chain([&named.entry]).find(|path| find(path).is_none());
    if let Some(path) = missing {
        let at = index.find(path.as_str()).unwrap_or_default();
        return Err(Trouble::at(
            "index.html",
            index,
            at,
            format!("there is no file src/web/{path}"),
        ));
    }
    let name = |script: Script<'_>| match script {
        Script::Page => format!("/stage.{version}.js"),
        Script::Shared => format!("/stage-shared.{version}.js"),
        Script::Later(path) => {
            format!("/{}.{version}.js", path.strip_suffix(".js").unwrap_or(path))
        }
    };
    let scripts = bundle::join(&named.entry, &find, &name)?;
    let styles: Vec<(&str, &str)> =
        named.styles.iter().map(|path| (path.as_str(), find(path).unwrap_or_default())).collect();
    let style = page::join_styles(&styles)?;
    let style_name = format!("/stage.{version}.css");
    let index = page::with_joined(index, &name(Script::Page), &style_name);

    made.insert(address("index.html"), Asset::of("index.html", index.into_bytes()));
    for (path, text) in scripts.into_iter().chain([(style_name, style)]) {
        let asset = Asset { is_lasting: true, ..Asset::of(&path, text.into_bytes()) };
        made.insert(path, asset);
    }
    Ok(made)
}

/// Returns a version that changes with each file.
fn version(files: &[(&str, &[u8])]) -> String {
    let mut hasher = DefaultHasher::new();
    for (path, body) in files {
        hasher.write(path.as_bytes());
        hasher.write(&(body.len() as u64).to_le_bytes());
        hasher.write(body);
    }
    format!("{:016x}", hasher.finish()).split_off(16 - VERSION_DIGITS)
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
    fn every_file_has_a_tag_of_its_own() {
        let mut tags = BTreeMap::new();
        for (path, asset) in Assets::embedded().made {
            assert!(!asset.body.is_empty(), "{path}");
            let packed = asset.packed.as_ref().map(|(tag, _)| tag);
            for tag in [Some(&asset.tag), packed].into_iter().flatten() {
                let other = tags.insert(tag, path);
                assert!(other.is_none(), "{other:?} and {path}");
            }
        }
    }

    fn header(answer: &HttpResponse, name: &str) -> Option<String> {
        let mut headers = answer.headers.iter();
        headers.find(|(other, _)| other == name).map(|(_, value)| value.to_string())
    }

    #[test]
    fn a_client_that_accepts_gzip_gets_the_same_file_in_fewer_bytes() {
        let assets = Assets::embedded();
        for (path, asset) in assets.made {
            let whole = assets.answer(path, "", false).unwrap();
            let packed = assets.answer(path, "", true).unwrap();
            assert_eq!(header(&whole, "Content-Encoding"), None, "{path}");
            assert!(whole.body == asset.body, "{path}");
            for answer in [&whole, &packed] {
                assert_eq!(header(answer, "Vary").as_deref(), Some("Accept-Encoding"), "{path}");
            }
            if asset.content_type.contains("charset") && asset.body.len() > 1_000 {
                assert_eq!(header(&packed, "Content-Encoding").as_deref(), Some("gzip"), "{path}");
                assert!(packed.body.len() < asset.body.len() * 3 / 5, "{path}");
                let mut unpacked = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(packed.body.as_ref());
                decoder.read_to_end(&mut unpacked).unwrap();
                assert!(unpacked == asset.body.as_ref(), "{path}");
            }
            for (answer, takes_gzip) in [(whole, false), (packed, true)] {
                let tag = header(&answer, "ETag").unwrap();
                assert_eq!(assets.answer(path, &tag, takes_gzip).unwrap().status, 304, "{path}");
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_under_its_path() {
        let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
        let mut folders = vec![top.clone()];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let full = entry.unwrap().path();
                if full.is_dir() {
                    folders.push(full);
                    continue;
                }
                let path = full.strip_prefix(&top).unwrap().to_str().unwrap();
                let answer = Assets::embedded().answer(&address(path), "", false);
                if !is_served(path) {
                    assert!(answer.is_none(), "{path}");
                    continue;
                }
                let answer = answer.unwrap_or_else(|| panic!("{path} is not served"));
                // It is served with the names of the joined files in it.
                if path != "index.html" {
                    assert!(answer.body == std::fs::read(&full).unwrap(), "{path}");
                    assert_eq!(header(&answer, "Cache-Control").as_deref(), Some("no-cache"));
                }
                let content_type = header(&answer, "Content-Type").unwrap();
                assert_ne!(content_type, "application/octet-stream", "{path} has no type");
                count += 1;
            }
        }
        assert!(count > 10, "{count}");
    }

    #[test]
    fn pages_of_every_origin_may_import_the_library_and_no_other_file() {
        for path in Assets::embedded().made.keys() {
            let answer = Assets::embedded().answer(path, "", false).unwrap();
            let is_shared = header(&answer, "Access-Control-Allow-Origin").is_some();
            assert_eq!(is_shared, LIBRARY.contains(&path.as_str()), "{path}");
        }
        for path in LIBRARY {
            assert!(Assets::embedded().made.contains_key(path), "{path}");
        }
    }

    const PAGE: &[u8] = b"<html>\n  <link rel=\"stylesheet\" href=\"/css/a.css\">\n  \
        <link rel=\"stylesheet\" href=\"/css/b.css\">\n  \
        <script type=\"module\" src=\"/app.js\"></script>\n</html>\n";

    const SMALL: [(&str, &[u8]); 11] = [
        ("app.js", b"import { say } from \"./stage/say.js\";\nsay(await import(\"./stage/late.js\"));\n"),
        ("bandsync.js", b"import \"./clock.js\";\nexport const band = 1;\n"),
        ("clock.js", b"export const clock = 1;\n"),
        ("css/a.css", b"/* a */\na { color: red; }\n"),
        ("css/b.css", b"b { background: url(/icon.png); }\n"),
        ("icon.png", b"png"),
        ("index.html", PAGE),
        ("package.json", b"{}"),
        ("stage/late.js", b"import { say } from \"./say.js\";\nexport const late = () => say(1);\n"),
        ("stage/say.js", b"import { band } from \"../bandsync.js\";\nexport const say = (what) => what + band;\n"),
        ("sw.js", b"1;\n"),
    ];

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(&asset.body).unwrap()
    }

    #[test]
    fn the_page_names_the_joined_files_which_never_change() {
        let made = make(&SMALL).unwrap();
        let version = version(&SMALL);
        assert_eq!(
            text(&made["/"]),
            format!(
                "<html>\n  <link rel=\"stylesheet\" href=\"/stage.{version}.css\">\n  \
                 <script type=\"module\" src=\"/stage.{version}.js\"></script>\n</html>\n"
            )
        );
        let lasting: Vec<&String> =
            made.iter().filter(|(_, asset)| asset.is_lasting).map(|(path, _)| path).collect();
        let names = ["/stage.{}.css", "/stage.{}.js", "/stage/late.{}.js"];
        assert_eq!(lasting, names.map(|name| name.replace("{}", &version)).each_ref());
        assert_eq!(
            text(&made[&format!("/stage.{version}.css")]),
            "/* css/a.css */\na { color: red; }\n/* css/b.css */\nb { background: url(/icon.png); }\n"
        );
        for path in ["/app.js", "/stage/say.js", "/css/a.css"] {
            assert_eq!(
                made[path].body,
                SMALL.iter().find(|(one, _)| address(one) == path).unwrap().1
            );
        }
        assert!(!made.contains_key("/package.json"));
    }

    #[test]
    fn a_change_of_any_file_changes_the_version() {
        for changed in 0..SMALL.len() {
            let mut files = SMALL;
            files[changed].1 = b"other";
            assert_ne!(version(&files), version(&SMALL), "{}", SMALL[changed].0);
        }
    }

    #[test]
    fn a_file_that_is_missing_or_cannot_be_joined_is_named_with_its_line() {
        let with = |path: &str, body: &'static [u8]| {
            let files = SMALL.map(|one| if one.0 == path { (path, body) } else { one });
            make(&files).err().map(|trouble| trouble.to_string()).unwrap_or_default()
        };
        for (path, body, expected) in [
            (
                "css/a.css",
                b"\n@import \"b.css\";".as_slice(),
                "src/web/css/a.css:2: name each style",
            ),
            ("css/a.css", b"a { background: url(\"x.png\"); }", "src/web/css/a.css:1: an address"),
            ("css/b.css", b"/* no end", "src/web/css/b.css:1: a comment has no end"),
            ("app.js", b"export default 1;", "src/web/app.js:1: an export has a name"),
            ("index.html", b"<html>", "src/web/index.html:1: it names no module"),
            (
                "index.html",
                b"\n<script type=\"module\" src=\"/none.js\"></script>",
                "src/web/index.html:2: there is no file src/web/none.js",
            ),
            (
                "index.html",
                b"\n\n<link href=\"/css/a.css\" rel=\"stylesheet\">",
                "src/web/index.html:3: write a style",
            ),
        ] {
            let found = with(path, body);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn a_tag_depends_only_on_the_bytes() {
        assert_eq!(tag(b"abc"), tag(b"abc"));
        assert_ne!(tag(b"abc"), tag(b"abd"));
        assert_ne!(tag(b""), tag(b"\0"));
    }
}
