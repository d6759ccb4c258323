//! BandSync, the server: reads its configuration, starts a shard on every core, says where it can
//! be reached, and waits to be told to stop.
//!
//! The shards do the work (`shards/driver`, `shards/engine`); what is here stands around them.

mod asyncapi;
mod banner;
mod check;
mod cli;
mod client;
mod config;
mod dotenv;
mod given;
mod http;
mod logging;
mod monitor;
mod process;
mod record;
mod replay;
mod settings;
mod start;
mod stop;
mod top;
mod trace;

use std::collections::BTreeMap;
use std::process::ExitCode;

use log::{debug, warn};

use cli::Asked;
use config::Config;
use given::Given;

/// Thousands of small buffers come and go on every shard thread at once, and one shard frees what
/// another allotted when a connection is handed over. mimalloc keeps a heap per thread and takes
/// such frees without a lock, and it returns memory after a burst, so that a server runs for weeks
/// without growing. Leak checkers only know the system's.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for a configuration that cannot be used, the same as for an unknown option.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    process::use_small_pages();
    match cli::parse() {
        Asked::Serve(typed) => configured(typed, log_and_serve),
        Asked::Check(typed) => configured(typed, |config| check::run(&config)),
        Asked::ListSettings(typed) => configured(typed, |config| check::list_settings(&config)),
        Asked::Top(typed, url) => configured(typed, |config| {
            let url = url.unwrap_or_else(|| format!("http://127.0.0.1:{}", config.port));
            top::run(&url, config.admin_token.as_ref())
        }),
        Asked::Replay(options) => replay::run(&options),
        Asked::Trace(options) => trace::run(&options),
        Asked::Completions(shell) => print(&cli::completions(shell)),
        Asked::Man => print(&cli::manual().unwrap_or_default()),
    }
}

/// Prints text for another program, which may have enough of it before its end.
fn print(text: &[u8]) -> ExitCode {
    process::tell(String::from_utf8_lossy(text).trim_end());
    ExitCode::SUCCESS
}

/// Goes on with the configuration that was typed or stands elsewhere, if it can be used.
fn configured(typed: BTreeMap<String, String>, go_on: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Given::gather(typed).and_then(|given| Config::check(&given)) {
        Ok(config) => go_on(config),
        Err(refusal) => {
            process::complain(&format!(
                "bandsync: {refusal}\nbandsync --help explains every setting."
            ));
            ExitCode::from(MISCONFIGURED)
        }
    }
}

/// Starts the log, then serves.
fn log_and_serve(config: Config) -> ExitCode {
    let file = config.log_file.as_deref();
    let log = match logging::start(&config.log_levels, config.log_format, file) {
        Ok(log) => log,
        Err(error) => {
            let file = file.unwrap_or(std::path::Path::new("standard error")).display();
            process::complain(&format!("bandsync: cannot log to {file}: {error}"));
            return ExitCode::from(MISCONFIGURED);
        }
    };
    let code = serve(config);
    log.flush();
    code
}

fn serve(config: Config) -> ExitCode {
    for note in &config.notes {
        warn!("{note}");
    }
    for setting in &config.effective {
        debug!("{setting}");
    }
    match process::raise_file_limit() {
        Ok(limit) => debug!("up to {limit} files and sockets may be open at once"),
        Err(error) => warn!("the limit of open files stays as it is: {error}"),
    }
    let stopping = match stop::Stopping::watch() {
        Ok(stopping) => stopping,
        Err(error) => {
            process::complain(&format!("bandsync: cannot watch for signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let server = match start::Server::start(&config, stopping.shard_ended()) {
        Ok(server) => server,
        Err(error) => {
            debug!("cannot start: {error}");
            process::complain(&format!("bandsync: {}", start::advice(&error, &config)));
            return ExitCode::FAILURE;
        }
    };
    process::notify("READY=1");
    banner::show(&config, server.port());
    stop::run(&stopping, server, config.drain_timeout)
}
