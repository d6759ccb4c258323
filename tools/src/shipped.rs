//! The packages whose code is in the server's binary, from `cargo metadata`.
//!
//! Only normal dependencies of the server count, on the systems that it is released for. Those of
//! tests, of build scripts and of other systems are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use serde::Deserialize;

/// The systems of the released binaries.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// The package of the server.
const SERVER: &str = "bandsync";

/// A package in the binary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Package {
    /// Name in the registry.
    pub name: String,
    /// Version.
    pub version: String,
    /// SPDX expression of its licence.
    pub licence: String,
    /// Folder of its source.
    pub folder: PathBuf,
    /// Address of its repository.
    pub repository: Option<String>,
    /// SHA-256 of its archive in the registry. `None`: it is a package of this repository.
    pub checksum: Option<String>,
    /// The places in the list of the packages that it depends on.
    pub needs: Vec<usize>,
}

/// The reason why the packages cannot be listed.
#[derive(Debug)]
pub enum ShippedError {
    /// cargo or a file cannot be read.
    System(PathBuf, io::Error),
    /// cargo failed, with this text.
    Cargo(String),
    /// The answer of cargo is not understood.
    Answer(serde_json::Error),
}

impl fmt::Display for ShippedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Cargo(text) => write!(f, "cargo metadata failed: {}", text.trim()),
            Self::Answer(error) => write!(f, "cargo metadata: {error}"),
        }
    }
}

impl std::error::Error for ShippedError {}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Listed>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    repository: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Lists the packages in order of their names and versions. `top` is the top of the repository.
///
/// # Errors
/// If cargo does not know them, for example because a package was never downloaded.
pub fn packages(top: &Path) -> Result<Vec<Package>, ShippedError> {
    let lock_path = top.join("Cargo.lock");
    let lock = fs::read_to_string(&lock_path)
        .map_err(|error| ShippedError::System(lock_path.clone(), error))?;
    let metadata: Metadata =
        serde_json::from_slice(&ask_cargo(top)?).map_err(ShippedError::Answer)?;
    Ok(select(metadata, &checksums(&lock)))
}

fn ask_cargo(top: &Path) -> Result<Vec<u8>, ShippedError> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(top).args(["metadata", "--format-version", "1", "--locked"]);
    for target in TARGETS {
        cargo.args(["--filter-platform", target]);
    }
    let output =
        cargo.output().map_err(|error| ShippedError::System(PathBuf::from("cargo"), error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(ShippedError::Cargo(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Follows the normal dependencies from the server on.
fn select(metadata: Metadata, checksums: &BTreeMap<(String, String), String>) -> Vec<Package> {
    let listed: BTreeMap<&str, &Listed> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let needs: BTreeMap<&str, Vec<&str>> = (metadata.resolve.nodes.iter())
        .map(|node| {
            let is_normal =
                |need: &&Dependency| need.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let ids = node.deps.iter().filter(is_normal).map(|need| need.pkg.as_str());
            (node.id.as_str(), ids.collect())
        })
        .collect();
    let mut ahead: Vec<&str> = (metadata.packages.iter())
        .filter(|package| package.name == SERVER)
        .map(|package| package.id.as_str())
        .collect();
    let mut found = BTreeMap::new();
    while let Some(id) = ahead.pop() {
        let Some(package) = listed.get(id) else { continue };
        if found.insert((&package.name, &package.version), id).is_none() {
            ahead.extend(needs.get(id).into_iter().flatten());
        }
    }
    let ids: Vec<&str> = found.into_values().collect();
    let place = |id: &&str| ids.iter().position(|other| other == id);
    let describe = |id: &&str| {
        let package = listed.get(id)?;
        let key = (package.name.clone(), package.version.clone());
        Some(Package {
            name: package.name.clone(),
            version: package.version.clone(),
            licence: package.license.clone().unwrap_or_default().replace('/', " OR "),
            folder: package.manifest_path.parent().map(Path::to_path_buf).unwrap_or_default(),
            repository: package.repository.clone(),
            checksum: checksums.get(&key).cloned(),
            needs: needs.get(id).into_iter().flatten().filter_map(place).collect(),
        })
    };
    ids.iter().filter_map(describe).collect()
}

/// Reads the checksums of a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let blocks = lock.split("[[package]]").skip(1);
    let found = blocks.filter_map(|block| {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line?.strip_suffix('"').map(str::to_owned)
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_dependencies_of_the_server_are_shipped() {
        let listed = |name: &str| {
            serde_json::json!({
                "id": name, "name": name, "version": "1", "license": "MIT/Apache-2.0",
                "manifest_path": format!("/{name}/Cargo.toml"),
            })
        };
        let need = |name: &str, kind: Option<&str>| serde_json::json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let packages = ["bandsync", "deep", "direct", "test", "tools"].map(listed);
        let metadata = serde_json::json!({
            "packages": packages,
            "resolve": {"nodes": [
                {"id": "bandsync", "deps": [need("direct", None), need("test", Some("dev"))]},
                {"id": "direct", "deps": [need("deep", None)]},
                {"id": "deep", "deps": []},
                {"id": "tools", "deps": [need("test", None)]},
            ]},
        });
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1\"\nchecksum = \"aa\"\n";
        let metadata = serde_json::from_value(metadata).expect("the answer of cargo");
        let found = select(metadata, &checksums(lock));
        let names: Vec<&str> = found.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["bandsync", "deep", "direct"]);
        assert_eq!(found[1].checksum.as_deref(), Some("aa"));
        assert_eq!(found[1].licence, "MIT OR Apache-2.0");
        assert_eq!((found[0].needs.as_slice(), found[2].needs.as_slice()), (&[2][..], &[1][..]));
    }
}
