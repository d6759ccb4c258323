//! Build script of the server: lists the files of `src/web`, so that all of them are in the binary,
//! in any folder, without a list that people keep.
#![allow(clippy::print_stdout)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).unwrap_or_default();
    let top = variable("CARGO_MANIFEST_DIR").join("src/web");
    // Cargo looks at all that is in the folder.
    println!("cargo:rerun-if-changed={}", top.display());
    println!("cargo:rerun-if-changed=tools/embed.rs");
    let mut paths = Vec::new();
    list(&top, "", &mut paths)?;
    paths.sort();
    let mut text = format!("[(&str, &[u8]); {}] = [\n", paths.len());
    for path in paths {
        let full = top.join(&path);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    ({path:?}, include_bytes!({full:?})),");
    }
    text.push_str("];\n");
    let text = format!("/// The files of `src/web` by their paths there.\nconst FILES: {text}");
    fs::write(variable("OUT_DIR").join("web.rs"), text)
}

/// Adds the files of a folder and of its folders.
fn list(folder: &Path, prefix: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with('~') || name == "node_modules" {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), &format!("{prefix}{name}/"), paths)?,
            false => paths.push(format!("{prefix}{name}")),
        }
    }
    Ok(())
}
