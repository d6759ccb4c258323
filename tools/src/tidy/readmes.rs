//! Documents: their links lead somewhere, and the commands that they show exist with all options.
//!
//! Commands are not run. Each is split into its programs, and the source of a program must have the
//! subcommand and every option: so a renamed option fails here.

use std::path::Path;

use super::{Breach, File};

/// Programs of this repository, with the place of their source and of their subcommands.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("bandsync", "src/", "src/cli"),
    ("perf", "perf/src/", "perf/src/commands"),
    ("tools", "tools/src/", "tools/src/commands"),
];

/// Checks all documents.
pub fn check(files: &[File], top: &Path) -> Vec<Breach> {
    let documents = files.iter().filter(|file| file.has_extension(&["md"]));
    documents
        .flat_map(|file| [links(file, files, top), commands(file, files, top)].concat())
        .collect()
}

fn links(file: &File, files: &[File], top: &Path) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") || target.is_empty() {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { file.path.clone() } else { beside(&file.path, path) };
            if !top.join(&path).exists() {
                breaches.push(file.breach(at + 1, format!("{path} does not exist")));
            } else if !anchor.is_empty() {
                let other = files.iter().find(|other| other.path == path);
                if !other.is_some_and(|other| anchors(&other.text).any(|name| name == anchor)) {
                    breaches.push(file.breach(at + 1, format!("{path} has no heading #{anchor}")));
                }
            }
        }
    }
    breaches
}

/// Returns the path of `target`, which is relative to the folder of `document`.
fn beside(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Names of the headings, as GitHub forms them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

fn commands(file: &File, files: &[File], top: &Path) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (line, text) in shown(&file.text) {
        for command in text.split([';', '|', '(', ')']).flat_map(|part| part.split("&&")) {
            let words: Vec<&str> =
                command.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
            let broken = broken(&words, files, top);
            breaches.extend(broken.map(|why| file.breach(line, format!("`{command}`: {why}"))));
        }
    }
    breaches
}

/// Returns the lines of code blocks and the spans in code style, with their line numbers.
fn shown(text: &str) -> Vec<(usize, String)> {
    let mut shown = Vec::new();
    let mut is_fenced = false;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_fenced = !is_fenced && line != "```js";
        } else if is_fenced || line.starts_with("    ") {
            let code = line.split(" # ").next().unwrap_or_default();
            shown.push((at + 1, code.to_owned()));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            shown.extend(spans.map(|span| (at + 1, span.to_owned())));
        }
    }
    shown
}

/// Returns the reason why a command cannot work, if it is one of ours and cannot.
fn broken(words: &[&str], files: &[File], top: &Path) -> Option<String> {
    const BEFORE: [&str; 6] = ["sudo", "chrt", "nice", "taskset", "-c", "-f"];
    let is_program = |word: &&str| !word.contains('=') && !BEFORE.contains(word);
    let start = words.iter().position(is_program)?;
    let (program, rest) = (words[start], &words[start + 1..]);
    if let Some(path) = program.strip_prefix("./").filter(|path| path.contains('/')) {
        let Ok(script) = std::fs::read_to_string(top.join(path)) else {
            return Some(format!("{path} does not exist"));
        };
        // Scripts pass some options on to the program beside them.
        let folder = path.split('/').next().unwrap_or_default();
        let source = format!("{script}\n{}", source(&format!("{folder}/src/"), files));
        return missing_option(rest, &source);
    }
    let name = program.rsplit('/').next().unwrap_or_default();
    let is_built = program == name || program.starts_with("target/");
    match (name, rest) {
        ("cargo", ["run" | "test" | "bench" | "build", options @ ..]) => cargo(options, files, top),
        (_, [command, options @ ..])
            if is_built && PROGRAMS.iter().any(|(own, ..)| *own == name) =>
        {
            program_call(name, command, options, files, top)
        }
        ("node", [.., script]) if script.ends_with(".js") || script.ends_with(".mjs") => {
            let places = ["", "tests/js/"].map(|folder| top.join(format!("{folder}{script}")));
            let is_there = places.iter().any(|place| place.exists());
            (!is_there && script.contains('/')).then(|| format!("{script} does not exist"))
        }
        _ => None,
    }
}

/// Checks the packages, test targets and programs that cargo is given.
fn cargo(options: &[&str], files: &[File], top: &Path) -> Option<String> {
    let value = |option: &str| {
        let at = options.iter().position(|word| *word == option)?;
        options.get(at + 1).copied()
    };
    let manifest = |package: &str| {
        let line = format!("name = \"{package}\"");
        let mut manifests = files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
        manifests.find(|file| file.text.lines().any(|other| other == line))
    };
    let package = value("-p").unwrap_or("bandsync");
    let Some(manifest) = manifest(package) else {
        return Some(format!("there is no package {package}"));
    };
    let folder = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
    if let Some(test) = value("--test") {
        let places = [format!("{folder}tests/{test}.rs"), format!("{folder}tests/{test}/main.rs")];
        if !places.iter().any(|place| top.join(place).exists()) {
            return Some(format!("{package} has no test {test}"));
        }
    }
    let at = options.iter().position(|word| *word == "--")?;
    let [command, rest @ ..] = &options[at + 1..] else { return None };
    let program = package.strip_prefix("bandsync-").unwrap_or(package);
    program_call(program, command, rest, files, top)
}

/// Checks the subcommand and the options of one of our programs.
fn program_call(
    name: &str,
    command: &str,
    options: &[&str],
    files: &[File],
    top: &Path,
) -> Option<String> {
    let (_, place, commands) = PROGRAMS.iter().find(|(own, ..)| *own == name)?;
    let source = source(place, files);
    if command.starts_with('-') {
        let all = [&[command], options].concat();
        return missing_option(&all, &source);
    }
    let is_word = command.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_known =
        ["", ".rs"].iter().any(|end| top.join(format!("{commands}/{command}{end}")).exists())
            || source.contains(&format!("\"{command}\""));
    if is_word && !is_known {
        return Some(format!("{name} has no command {command}"));
    }
    missing_option(options, &source)
}

/// Returns the first long option that the source of a program does not have.
fn missing_option(words: &[&str], source: &str) -> Option<String> {
    let options = words.iter().filter_map(|word| word.strip_prefix("--"));
    let names = options.map(|option| option.split('=').next().unwrap_or_default());
    let own = names.filter(|name| !["", "help", "version"].contains(name));
    let has = |name: &str| {
        source.contains(&format!("--{name}"))
            || source.contains(&format!("\"{name}\""))
            || source.contains(&format!("{}:", name.replace('-', "_")))
    };
    own.into_iter().find(|name| !has(name)).map(|name| format!("there is no option --{name}"))
}

fn source(place: &str, files: &[File]) -> String {
    // This file names options that no program has.
    let is_source = |file: &&File| file.is_rust() && !file.path.starts_with("tools/src/tidy/");
    let texts = files.iter().filter(is_source).filter(|file| file.path.starts_with(place));
    texts.map(|file| file.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_broken_link_is_reported() {
    let top = super::top();
    let found = |text: &str| {
        let file = File::new("tools/README.md", text);
        links(&file, std::slice::from_ref(&file), &top).len()
    };
    assert_eq!(found("# A title, here\n[up](../README.md) [here](#a-title-here)"), 0);
    assert_eq!(found("[gone](../gone.md) [nowhere](#nowhere) [web](https://example.org/#x)"), 2);
}

#[test]
fn an_unknown_command_is_reported() {
    let top = super::top();
    let files = super::files(&top);
    let found = |text: &str| commands(&File::new("README.md", text), &files, &top);
    for good in [
        "    ./tools/test --only yardstick # comment",
        "    cargo run --release -p bandsync-perf -- load --scenario ticks",
        "`cargo test -p bandsync-perf --test memory` and `target/release/perf growth --only idle`",
        "`bandsync serve --record DIR`, `bandsync man | man -l -`, `bandsync.redb`",
        "    cd tests/js && npm ci && node --test integration/wire.test.js",
    ] {
        assert_eq!(found(good), [""; 0], "{good}");
    }
    for bad in [
        "    ./tools/gone",
        "    ./tools/test --sing-along",
        "`cargo test -p bandsync-gone`",
        "`cargo test -p bandsync-perf --test gone`",
        "`cargo run -p bandsync-tools -- sing`",
        "`target/release/perf growth --sing-along`",
        "    bandsync serve --sing-along",
        "    node --test integration/gone.test.js",
    ] {
        assert_eq!(found(bad).len(), 1, "{bad}: {:?}", found(bad));
    }
}
