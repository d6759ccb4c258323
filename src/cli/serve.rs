//! `bandsync serve`: starts the log and the server, prints where the server can be reached, and
//! waits for a signal to stop.

use std::process::ExitCode;
use std::time::Duration;

use log::{debug, warn};

use super::MISCONFIGURED;
use crate::config::Config;
use crate::ops::mdns::Responder;
use crate::ops::signals::Stopping;
use crate::ops::tls::Identity;
use crate::ops::{banner, logging, process};
use crate::server::start::Server;
use crate::server::stop;

/// Maximum time for which the text at start waits for the name in the local network. Three
/// questions take 750 ms.
const NAME_WAIT: Duration = Duration::from_millis(1_200);

/// Starts the log, then serves.
pub fn run(config: Config) -> ExitCode {
    let file = config.logging.file.as_deref();
    let log = match logging::start(&config.logging.levels, config.logging.format, file) {
        Ok(log) => log,
        Err(error) => {
            let file = file.unwrap_or(std::path::Path::new("standard error")).display();
            process::print_error(&format!("bandsync: cannot log to {file}: {error}"));
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
        Err(error) => warn!("cannot raise the limit of open files: {error}"),
    }
    let identity = match config.tls.as_ref().map(Identity::load).transpose() {
        Ok(identity) => identity,
        Err(error) => {
            process::print_error(&format!("bandsync: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let certificate = identity.clone();
    let hang_up = move || certificate.iter().for_each(|certificate| certificate.reload());
    let stopping = match Stopping::watch(hang_up) {
        Ok(stopping) => stopping,
        Err(error) => {
            process::print_error(&format!("bandsync: cannot watch for signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // It looks for a free name while the server starts.
    let responder = config.mdns.then(|| Responder::start(config.host));
    let mut responder = responder
        .and_then(|started| started.inspect_err(|error| warn!("cannot start mDNS: {error}")).ok());
    let server = match Server::start(&config, identity.as_ref(), stopping.shard_ended()) {
        Ok(server) => server,
        Err(error) => {
            debug!("cannot start: {error:?}");
            process::print_error(&format!("bandsync: {error}"));
            return ExitCode::FAILURE;
        }
    };
    process::notify("READY=1");
    let name = responder.as_mut().and_then(|responder| responder.name(NAME_WAIT));
    banner::show(&config, server.port(), name.as_deref());
    stop::run(&stopping, server, config.drain_timeout)
}
