//! Compiles the service and uWebSockets' sources, which lie in a package that cargo has fetched.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let sources = sources()?;
    let sockets = sources.join("uSockets/src");
    let mut c = cc::Build::new();
    c.files(
        ["bsd.c", "context.c", "loop.c", "socket.c", "udp.c", "eventing/epoll_kqueue.c"]
            .map(|name| sockets.join(name)),
    );
    let mut cpp = cc::Build::new();
    cpp.cpp(true).std("c++20").file("src/server.cpp").include(sources.join("src"));
    for (build, name) in [(&mut c, "usockets"), (&mut cpp, "server")] {
        build.include(&sockets).opt_level(3).warnings(false);
        build.define("LIBUS_NO_SSL", None).define("LIBUS_USE_EPOLL", None).define("UWS_NO_ZLIB", None);
        build.compile(name);
    }
    println!("cargo:rerun-if-changed=src/server.cpp");
    Ok(())
}

/// Where cargo keeps the package's sources.
fn sources() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var("CARGO")?;
    let arguments = ["metadata", "--format-version", "1", "--locked", "--all-features"];
    let found = Command::new(cargo).args(arguments).output()?;
    if !found.status.success() {
        return Err(String::from_utf8_lossy(&found.stderr).into());
    }
    let found: serde_json::Value = serde_json::from_slice(&found.stdout)?;
    let packages = found["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "libuwebsockets-sys")
        .find_map(|package| package["manifest_path"].as_str())
        .ok_or("cargo knows no package with uWebSockets' sources")?;
    Ok(PathBuf::from(manifest).with_file_name("uWebSockets"))
}
