//! BandSync, the server: reads its configuration, starts a shard on every core, prints where it can
//! be reached, and waits for a signal to stop.
//!
//! The shards do the work (`shards/driver`, `shards/engine`); the modules here run around them.

mod cli;
mod config;
#[cfg(test)]
mod docs;
mod http;
mod monitor;
mod ops;
mod server;

use std::collections::BTreeMap;
use std::process::ExitCode;

use cli::health::Whom;
use cli::{Command, check, health, licences, replay, serve, top, trace};
use config::Config;
use config::raw::RawConfig;
use ops::process;

/// Shard threads allocate and free thousands of small buffers, and one shard frees buffers of
/// another after a hand-over. mimalloc keeps a heap per thread and takes such frees without a lock.
/// It also returns memory after a burst, so the server runs for weeks without growing. Leak
/// checkers only know the system's allocator.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::use_small_pages();
    process::use_own_resolver();
    match cli::parse() {
        Command::Serve(typed) => configured(typed, serve::run),
        Command::Check(typed) => configured(typed, |config| check::run(&config)),
        Command::ListSettings(typed) => configured(typed, |config| check::list_settings(&config)),
        Command::Health(typed, url, question) => configured(typed, |config| {
            let own = || Whom::own(config.host, config.port, config.tls.is_some());
            health::run(url.map(Whom::Named).or_else(own).as_ref(), question)
        }),
        Command::Licences => licences::run(),
        Command::Top(typed, url) => configured(typed, |config| {
            let url = url.unwrap_or_else(|| format!("http://127.0.0.1:{}", config.port));
            top::run(&url, config.admin_token.as_ref())
        }),
        Command::Replay(options) => replay::run(&options),
        Command::Trace(options) => trace::run(&options),
        Command::Completions(shell) => print(&cli::completions(shell)),
        Command::Man => print(&cli::manual().unwrap_or_default()),
    }
}

/// Prints text for another program, which may close the pipe before the end.
fn print(text: &[u8]) -> ExitCode {
    process::print_line(String::from_utf8_lossy(text).trim_end());
    ExitCode::SUCCESS
}

/// Continues with the configuration, if it can be used.
fn configured(typed: BTreeMap<String, String>, go_on: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match RawConfig::gather(typed).and_then(|given| Config::check(&given)) {
        Ok(config) => go_on(config),
        Err(rejection) => {
            process::print_error(&format!(
                "bandsync: {rejection}\nbandsync --help explains every setting."
            ));
            ExitCode::from(cli::MISCONFIGURED)
        }
    }
}
