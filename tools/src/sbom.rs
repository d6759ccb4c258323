//! The software bill of materials of a release, in the format CycloneDX 1.6: the packages in the
//! server's binary, with licences, checksums and dependencies.

use serde_json::{Value, json};

use crate::shipped::Package;

/// The package that the others are parts of.
const SERVER: &str = "bandsync";

/// Returns the bill. `time` is that of the release, such as `2026-11-29T20:00:00Z`; the same
/// packages and time give the same text.
pub fn bill(packages: &[Package], time: &str) -> Value {
    let (server, parts): (Vec<&Package>, Vec<&Package>) =
        packages.iter().partition(|package| package.name == SERVER);
    let server = server.first().map(|package| component(package, "application"));
    let parts: Vec<Value> =
        parts.into_iter().map(|package| component(package, "library")).collect();
    let dependencies = packages.iter().map(|package| {
        let needs: Vec<String> =
            package.needs.iter().filter_map(|at| packages.get(*at)).map(reference).collect();
        json!({"ref": reference(package), "dependsOn": needs})
    });
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": time, "component": server},
        "components": parts,
        "dependencies": dependencies.collect::<Vec<_>>(),
    })
}

/// Returns the address of a package in the notation of purl.
fn reference(package: &Package) -> String {
    let version = package.version.replace('+', "%2B");
    format!("pkg:cargo/{}@{version}", package.name)
}

fn component(package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "purl": reference(package),
        "licenses": [{"expression": package.licence}],
    });
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::shipped;

    #[test]
    fn the_bill_lists_every_package_once_and_refers_only_to_listed_ones() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let packages = shipped::packages(&top).unwrap_or_else(|error| panic!("{error}"));
        let bill = bill(&packages, "2026-11-29T20:00:00Z");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let parts = list(&bill["components"]);
        assert_eq!(parts.len() + 1, packages.len());
        assert_eq!(bill["metadata"]["component"]["name"], SERVER);
        let mut listed: Vec<&Value> = parts.iter().map(|part| &part["bom-ref"]).collect();
        for own in ["pkg:cargo/bandsync-engine@", "pkg:cargo/rustls@", "pkg:cargo/redis@"] {
            let is_own = |one: &&Value| one.as_str().is_some_and(|one| one.starts_with(own));
            assert!(listed.iter().any(is_own), "{own} is missing");
        }
        listed.push(&bill["metadata"]["component"]["bom-ref"]);
        listed.sort_by_key(|one| one.to_string());
        listed.dedup();
        assert_eq!(listed.len(), packages.len(), "each is listed once");
        for one in list(&bill["dependencies"]) {
            for need in list(&one["dependsOn"]) {
                assert!(listed.contains(&&need), "{need} is not listed");
            }
        }
        for part in parts {
            assert_ne!(part["licenses"][0]["expression"], "", "{part}");
        }
    }
}
