//! `tools/linker`, through which cargo links: it passes on the compiler's output, and helps if
//! there is no compiler.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Links with this `cc`, or none, and returns the exit code and the output.
fn link(name: &str, compiler: Option<&str>) -> (i32, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("linker-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for program in ["sh", "cat"] {
        let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
        symlink(found.into_iter().find(|path| path.exists()).unwrap(), folder.join(program))
            .unwrap();
    }
    if let Some(text) = compiler {
        fs::write(folder.join("cc"), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(folder.join("cc"), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("linker"))
        .args(["-o", "a b"])
        .env_clear()
        .env("PATH", &folder)
        .output()
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let printed =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), printed)
}

#[test]
fn it_passes_on_the_arguments_and_the_errors_of_the_compiler() {
    assert_eq!(link("works", Some("echo \"$# $2\"")), (0, "2 a b\n".to_owned()));
    let (code, printed) =
        link("fails", Some("[ \"$1\" = -E ] && exit 0; echo 'undefined symbol'; exit 3"));
    assert_eq!((code, printed.as_str()), (3, "undefined symbol\n"));
}

#[test]
fn without_a_compiler_or_its_headers_it_says_what_to_install() {
    for (name, compiler) in [("none", None), ("headers", Some("exit 1"))] {
        let (code, printed) = link(name, compiler);
        assert!(code == 1 && printed.contains("apt-get install gcc libc6-dev"), "{printed}");
    }
}
