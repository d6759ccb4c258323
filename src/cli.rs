//! The command line: made from the table of settings, read as plain text.

use std::collections::BTreeMap;

use clap::{Arg, Args, Command, FromArgMatches};

use crate::settings::{SETTINGS, Setting};
use crate::{replay, trace};

/// What is to be done; settings are by the name of the variable that means the same.
pub enum Asked {
    Serve(BTreeMap<String, String>),
    /// Look at the configuration and the machine.
    Check(BTreeMap<String, String>),
    /// Watch the server at this address, or at the port that the settings name.
    Top(BTreeMap<String, String>, Option<String>),
    /// Run a trace again.
    Replay(replay::Options),
    /// Look inside a trace.
    Trace(trace::Options),
}

/// What was typed. Ends the process after `--help`, after `--version`, and (with code 2) after an option that does
/// not exist.
pub fn parse() -> Asked {
    let matches = command().get_matches();
    let asked = match matches.subcommand() {
        Some(("replay", matches)) => replay::Options::from_arg_matches(matches).map(Asked::Replay),
        Some(("trace", matches)) => trace::Options::from_arg_matches(matches).map(Asked::Trace),
        Some(("check", _)) => Ok(Asked::Check(typed(&matches))),
        Some(("top", top)) => Ok(Asked::Top(typed(&matches), top.get_one::<String>("url").cloned())),
        _ => Ok(Asked::Serve(typed(&matches))),
    };
    // What is wrong with the options was found before; this keeps the two descriptions from parting.
    asked.unwrap_or_else(|error| error.exit())
}

/// The settings that stand before or behind the command; the latter count.
fn typed(matches: &clap::ArgMatches) -> BTreeMap<String, String> {
    let behind = matches.subcommand().map(|(_, matches)| matches);
    let given = |matches: &clap::ArgMatches, setting: &Setting| {
        matches.try_get_one::<String>(setting.variable).ok().flatten().cloned()
    };
    let value = |setting: &Setting| {
        behind.and_then(|matches| given(matches, setting)).or_else(|| given(matches, setting))
    };
    SETTINGS.iter().filter_map(|setting| Some((setting.variable.to_owned(), value(setting)?))).collect()
}

fn command() -> Command {
    let settings = || SETTINGS.map(argument);
    let serve = Command::new("serve").about("Runs the server; what happens without a command too");
    let command = Command::new("bandsync")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Keeps a band on the same page, in the same bar.")
        .after_help(
            "Every option can be given as the variable in brackets too, in the environment or in a file .env in \
             the working directory. The command line goes before the environment, that before .env, that before \
             the profile's default. An empty variable counts as not given.\n\n\
             Exit codes: 0 stopped in order, 1 failed, 2 misconfigured, 130 or 143 stopped at once by a second \
             SIGINT or SIGTERM.\n\n\
             Signals: SIGINT and SIGTERM say goodbye to everybody and stop, a second one stops at once. SIGHUP opens \
             LOG_FILE anew; the server goes on.",
        )
        .disable_help_subcommand(true)
        .subcommand(serve.args(settings()))
        .subcommand(replay::Options::augment_args(Command::new("replay")).about(
            "Runs recorded traces again through the same engine, as fast as it can, and compares the outputs",
        ))
        .subcommand(trace::Options::augment_args(Command::new("trace")).about("Looks inside recorded traces"))
        .subcommand(
            Command::new("check")
                .about("Looks at the configuration and this machine, and explains what it finds")
                .args(settings()),
        )
        .subcommand(
            Command::new("top")
                .about("Shows a running server in the terminal, anew every second")
                .arg(Arg::new("url").value_name("URL").help("The server, http://127.0.0.1:PORT if none is given"))
                .args(settings()),
        );
    command.args(settings())
}

fn argument(setting: &'static Setting) -> Arg {
    Arg::new(setting.variable)
        .long(setting.option)
        .value_name("VALUE")
        .help(explanation(setting))
        // A value such as `-3` reaches our own check, which names what is allowed.
        .allow_hyphen_values(true)
}

/// Meaning, range with unit, default for each profile, variable.
fn explanation(setting: &Setting) -> String {
    let with_unit = |value: &str| match setting.unit {
        "" => value.to_owned(),
        unit => format!("{value} {unit}"),
    };
    let default = match (with_unit(setting.development), with_unit(setting.production)) {
        (same, other) if same == other => same,
        (development, production) => format!("{development} in development, {production} in production"),
    };
    let allowed = with_unit(&setting.allowed.to_string());
    format!("{} Allowed: {allowed}. Default: {default}. [{}]", setting.help, setting.variable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(arguments: &str, expected: &[(&str, &str)]) {
        let matches = command().try_get_matches_from(arguments.split(' ')).unwrap();
        let expected = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(typed(&matches), expected, "{arguments}");
    }

    #[test]
    fn clap_finds_no_fault_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn options_are_read_with_and_without_the_command() {
        check("bandsync", &[]);
        check("bandsync --port 1", &[("PORT", "1")]);
        check("bandsync serve --port=1 --host ::1", &[("PORT", "1"), ("HOST", "::1")]);
        check("bandsync --port 1 serve --host ::1", &[("PORT", "1"), ("HOST", "::1")]);
        check("bandsync --port -3", &[("PORT", "-3")]);
        check("bandsync --port 1 serve --port 2", &[("PORT", "2")]);
        check("bandsync check --port 1", &[("PORT", "1")]);
        check("bandsync top --port 1 http://stage", &[("PORT", "1")]);
    }

    #[test]
    fn what_does_not_exist_is_refused_with_code_2() {
        for arguments in
            ["bandsync --louder", "bandsync sing", "bandsync --port", "bandsync --port 1 --port 2"]
        {
            let error = command().try_get_matches_from(arguments.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments}");
        }
    }

    /// Who replays a trace does not configure a server.
    #[test]
    fn what_reads_traces_has_options_of_its_own_alone() {
        for arguments in ["bandsync replay --help", "bandsync trace show --help"] {
            let help = command().try_get_matches_from(arguments.split(' ')).unwrap_err().to_string();
            assert!(help.contains("--until") && !help.contains("--port"), "{help}");
        }
        let refused = command().try_get_matches_from(["bandsync", "replay", "--port", "1", "x"]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
    }

    #[test]
    fn the_help_names_unit_range_and_both_defaults() {
        let help = explanation(&crate::settings::SCROLL_TICK_INTERVAL);
        for part in
            ["from 4 to 1000 ms", "16 ms in development, 8 ms in production", "[SCROLL_TICK_INTERVAL]"]
        {
            assert!(help.contains(part), "{part}: {help}");
        }
    }
}
