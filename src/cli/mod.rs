//! The command line, made from the table of settings. Values stay text until `config` checks them.

pub mod check;
pub mod health;
pub mod licences;
mod progress;
pub mod replay;
mod runs;
pub mod serve;
mod stage;
pub mod top;
pub mod trace;

use std::collections::BTreeMap;
use std::io;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Args, FromArgMatches, ValueHint};
use clap_complete::Shell;

use crate::config::table::{self, SETTINGS, Setting};

/// Exit code for an unusable configuration, the same as for an unknown option.
pub const MISCONFIGURED: u8 = 2;

/// The command to run. Settings are keyed by their variable.
pub enum Command {
    /// Run the server.
    Serve(BTreeMap<String, String>),
    /// Examine the configuration and the machine.
    Check(BTreeMap<String, String>),
    /// List the settings in use.
    ListSettings(BTreeMap<String, String>),
    /// Ask the server at this address, or at the port that the settings name.
    Health(BTreeMap<String, String>, Option<String>, health::Question),
    /// Print the licences.
    Licences,
    /// Watch the server at this address, or at the port that the settings name.
    Top(BTreeMap<String, String>, Option<String>),
    /// Replay traces.
    Replay(replay::Options),
    /// Look inside a trace.
    Trace(trace::Options),
    /// Print a completion script for this shell.
    Completions(Shell),
    /// Print the manual page.
    Man,
}

/// Parses the command line. Ends the process after `--help` and `--version`, and with code 2 after
/// an unknown option.
pub fn parse() -> Command {
    let matches = command(Purpose::Parse).get_matches();
    let command = match matches.subcommand() {
        Some(("replay", matches)) => {
            replay::Options::from_arg_matches(matches).map(Command::Replay)
        }
        Some(("trace", matches)) => trace::Options::from_arg_matches(matches).map(Command::Trace),
        Some(("check", check)) if check.get_flag(ONLY_SETTINGS) => {
            Ok(Command::ListSettings(typed(&matches)))
        }
        Some(("check", _)) => Ok(Command::Check(typed(&matches))),
        Some(("health", health)) => {
            let ready = health.get_flag(READY);
            let question = if ready { health::Question::Ready } else { health::Question::Live };
            let url = health.get_one::<String>("url").cloned();
            Ok(Command::Health(typed(&matches), url, question))
        }
        Some(("licences", _)) => Ok(Command::Licences),
        Some(("top", top)) => {
            Ok(Command::Top(typed(&matches), top.get_one::<String>("url").cloned()))
        }
        Some(("completions", of)) => {
            Ok(of.get_one(SHELL).map_or(Command::Man, |shell| Command::Completions(*shell)))
        }
        Some(("man", _)) => Ok(Command::Man),
        _ => Ok(Command::Serve(typed(&matches))),
    };
    // `get_matches` has found every error by now, unless the two descriptions of the options
    // differ.
    command.unwrap_or_else(|error| error.exit())
}

/// Returns the settings before and after the command. Those after it take precedence.
fn typed(matches: &clap::ArgMatches) -> BTreeMap<String, String> {
    let behind = matches.subcommand().map(|(_, matches)| matches);
    let given = |matches: &clap::ArgMatches, setting: &Setting| {
        matches.try_get_one::<String>(setting.variable).ok().flatten().cloned()
    };
    let value = |setting: &Setting| {
        behind.and_then(|matches| given(matches, setting)).or_else(|| given(matches, setting))
    };
    SETTINGS
        .iter()
        .filter_map(|setting| Some((setting.variable.to_owned(), value(setting)?)))
        .collect()
}

/// Returns a script that completes options, commands and values in this shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(Purpose::Complete), "bandsync", &mut script);
    script
}

/// Returns the manual page.
///
/// # Errors
/// None: it is written to memory.
pub fn manual() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command(Purpose::Parse));
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    // Without the options, which would fill a screen.
    page.extend_from_slice(b".SH SYNOPSIS\n\\fBbandsync\\fR [\\fIOPTIONS\\fR] [\\fICOMMAND\\fR]\n");
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Option of `check` that only lists the settings.
const ONLY_SETTINGS: &str = "only-settings";

/// Option of `health` that asks whether new members may connect.
const READY: &str = "ready";

/// Argument of `completions`.
const SHELL: &str = "shell";

/// The use of the description of the command line.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Purpose {
    /// To parse arguments. Values are checked later, together with those of the environment.
    Parse,
    /// To complete arguments, values included.
    Complete,
}

fn command(purpose: Purpose) -> clap::Command {
    let settings = || SETTINGS.map(|setting| argument(setting, purpose));
    let serve =
        clap::Command::new("serve").about("Runs the server; the default if no command is given");
    let command = clap::Command::new("bandsync")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Keeps a band on the same page, in the same bar.")
        .max_term_width(100)
        // Without the empty line before the usage, so that the short help fits a screen.
        .help_template("{about-with-newline}{usage-heading} {usage}\n\n{all-args}{after-help}")
        .after_long_help(
            "Every option can also be given as the variable in brackets, in the environment or in a file .env \
             in the working directory. With BANDSYNC_ before its name it takes precedence over the bare name. \
             The command line takes precedence over the environment, that over .env, and that over the \
             profile's default. An empty variable counts as not given.\n\n\
             Exit codes: 0 stopped in order, 1 failed, 2 misconfigured, 130 or 143 stopped at once by a second \
             SIGINT or SIGTERM.\n\n\
             Signals: SIGINT and SIGTERM close all clients and stop; a second one stops at once. SIGHUP reopens \
             LOG_FILE.",
        )
        .subcommand(serve.args(settings()))
        .subcommand(
            clap::Command::new("check")
                .about("Examines the configuration and this machine")
                .arg(
                    Arg::new(ONLY_SETTINGS)
                        .long("settings")
                        .action(ArgAction::SetTrue)
                        .help("Only list the settings and their sources"),
                )
                .args(settings()),
        )
        .subcommand(
            clap::Command::new("health")
                .about("Asks a running server whether it is live")
                .long_about(
                    "Asks a running server whether it is live: whether no shard hangs. Prints \
                     one sentence. The exit code is 0 for yes and 1 for no. Without URL it asks \
                     the port that the settings name: a health check for containers.",
                )
                .arg(
                    Arg::new(READY)
                        .long(READY)
                        .action(ArgAction::SetTrue)
                        .help("Ask whether new members may connect"),
                )
                .arg(server_url())
                .args(settings()),
        )
        .subcommand(
            clap::Command::new("top")
                .about("Shows a running server in the terminal")
                .arg(server_url())
                .args(settings()),
        )
        .subcommand(
            replay::Options::augment_args(clap::Command::new("replay"))
                .about("Replays traces and compares the outputs"),
        )
        .subcommand(trace::Options::augment_args(clap::Command::new("trace")).about("Looks inside recorded traces"))
        .subcommand(
            clap::Command::new("completions")
                .about("Prints a script that completes the command line")
                .long_about(
                    "Prints a script that completes commands, options and values. For bash:\n\n  \
                     bandsync completions bash > ~/.local/share/bash-completion/completions/bandsync",
                )
                .arg(
                    Arg::new(SHELL)
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(clap::value_parser!(Shell))
                        .hide_possible_values(true)
                        .help("bash, zsh, fish, elvish or powershell"),
                ),
        )
        .subcommand(
            clap::Command::new("licences").about("Prints the licences of all code in this program"),
        )
        .subcommand(
            clap::Command::new("man")
                .about("Prints the manual page")
                .long_about("Prints the manual page. To read it: bandsync man > bandsync.1; man ./bandsync.1"),
        );
    command.args(settings())
}

fn server_url() -> Arg {
    let help = "The server, http://127.0.0.1:PORT if none is given";
    Arg::new("url").value_name("URL").help(help)
}

fn argument(setting: &'static Setting, purpose: Purpose) -> Arg {
    let argument = Arg::new(setting.variable)
        .long(setting.option)
        .value_name("VALUE")
        .help(setting.short)
        .long_help(explanation(setting))
        .help_heading(setting.heading())
        .hide_short_help(setting.short.is_empty())
        // A value such as `-3` reaches our own check, which names the allowed values.
        .allow_hyphen_values(true);
    let is = |other: &Setting| setting.variable == other.variable;
    let argument = argument.value_hint(match () {
        () if is(&table::DATA_DIR) || is(&table::RECORD_DIR) => ValueHint::DirPath,
        () if is(&table::LOG_FILE) => ValueHint::FilePath,
        () => ValueHint::Other,
    });
    // A path completes as a path. The word that is allowed besides it is the default anyway.
    let words = if matches!(argument.get_value_hint(), ValueHint::Other) {
        setting.words()
    } else {
        Vec::new()
    };
    match purpose {
        Purpose::Complete if !words.is_empty() => {
            argument.value_parser(PossibleValuesParser::new(words))
        }
        _ => argument,
    }
}

/// Meaning, range with unit, default of each profile, variable.
fn explanation(setting: &Setting) -> String {
    let with_unit = |value: &str| match setting.unit {
        "" => value.to_owned(),
        unit => format!("{value} {unit}"),
    };
    // A word such as `auto` has no unit.
    let with_its_unit = |value: &str| {
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_number { with_unit(value) } else { value.to_owned() }
    };
    let default = match (with_its_unit(setting.development), with_its_unit(setting.production)) {
        (same, other) if same == other => same,
        (development, production) => {
            format!("{development} in development, {production} in production")
        }
    };
    let allowed = with_unit(&setting.allowed.to_string());
    format!("{} Allowed: {allowed}. Default: {default}. [{}]", setting.help, setting.variable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(arguments: &str, expected: &[(&str, &str)]) {
        let matches = command(Purpose::Parse).try_get_matches_from(arguments.split(' ')).unwrap();
        let expected =
            expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(typed(&matches), expected, "{arguments}");
    }

    #[test]
    fn clap_accepts_the_table_of_settings() {
        command(Purpose::Parse).debug_assert();
    }

    #[test]
    fn options_are_parsed_with_and_without_the_command() {
        check("bandsync", &[]);
        check("bandsync --port 1", &[("PORT", "1")]);
        check("bandsync serve --port=1 --host ::1", &[("PORT", "1"), ("HOST", "::1")]);
        check("bandsync --port 1 serve --host ::1", &[("PORT", "1"), ("HOST", "::1")]);
        check("bandsync --port -3", &[("PORT", "-3")]);
        check("bandsync --port 1 serve --port 2", &[("PORT", "2")]);
        check("bandsync check --port 1", &[("PORT", "1")]);
        check("bandsync top --port 1 http://stage", &[("PORT", "1")]);
        check("bandsync --port 1 health --ready", &[("PORT", "1")]);
    }

    #[test]
    fn unknown_and_repeated_arguments_exit_with_code_2() {
        for arguments in
            ["bandsync --louder", "bandsync sing", "bandsync --port", "bandsync --port 1 --port 2"]
        {
            let error =
                command(Purpose::Parse).try_get_matches_from(arguments.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments}");
        }
    }

    /// A replay does not configure a server.
    #[test]
    fn trace_commands_accept_only_their_own_options() {
        for arguments in ["bandsync replay --help", "bandsync trace show --help"] {
            let help = command(Purpose::Parse)
                .try_get_matches_from(arguments.split(' '))
                .unwrap_err()
                .to_string();
            assert!(help.contains("--until") && !help.contains("--port"), "{help}");
        }
        let rejected = command(Purpose::Parse)
            .try_get_matches_from(["bandsync", "replay", "--port", "1", "x"])
            .unwrap_err();
        assert_eq!(rejected.exit_code(), 2);
    }

    #[test]
    fn settings_can_be_listed() {
        let matches = command(Purpose::Parse)
            .try_get_matches_from(["bandsync", "check", "--settings"])
            .unwrap();
        assert!(matches.subcommand().unwrap().1.get_flag(ONLY_SETTINGS));
    }

    fn help(arguments: &str) -> String {
        command(Purpose::Parse).try_get_matches_from(arguments.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn the_short_help_fits_a_screen() {
        for arguments in
            ["bandsync -h", "bandsync serve -h", "bandsync check -h", "bandsync completions -h"]
        {
            let help = help(arguments);
            assert!(help.lines().count() <= 24, "{help}");
            let longest = help.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= 80, "{longest} columns: {help}");
        }
        assert!(help("bandsync -h").contains("--port <VALUE>"));
    }

    #[test]
    fn the_long_help_has_every_setting_below_its_heading() {
        let help = help("bandsync --help");
        let mut rest = help.as_str();
        let mut heading = None;
        for setting in SETTINGS {
            if setting.heading() != heading {
                heading = setting.heading();
                let title = format!("\n{}:\n", heading.unwrap());
                rest = rest.split_once(title.as_str()).unwrap_or_else(|| panic!("{title}")).1;
            }
            let option = format!("--{} <VALUE>\n", setting.option);
            rest = rest.split_once(option.as_str()).unwrap_or_else(|| panic!("{option}")).1;
            assert!(rest.contains(&format!("[{}]", setting.variable)), "{}", setting.variable);
        }
    }

    #[test]
    fn values_can_be_completed_in_every_shell() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for setting in SETTINGS {
                assert!(script.contains(setting.option), "{shell}: {}", setting.option);
            }
            // Elvish and PowerShell do not complete values.
            if [Shell::Bash, Shell::Fish, Shell::Zsh].contains(&shell) {
                assert!(script.contains("production") && script.contains("pretty"), "{shell}");
            }
        }
    }

    #[test]
    fn the_manual_explains_every_setting_and_command() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        assert!(page.contains(".TH bandsync 1"), "{page}");
        for setting in SETTINGS {
            assert!(page.contains(&format!("[{}]", setting.variable)), "{}", setting.variable);
        }
        for name in
            ["serve", "check", "health", "top", "replay", "trace", "completions", "licences", "man"]
        {
            assert!(page.contains(name), "{name}");
        }
    }

    #[test]
    fn a_word_has_no_unit() {
        let help = explanation(&crate::config::table::CONNECTIONS_PER_IP);
        assert!(help.contains("Default: auto. ["), "{help}");
    }

    #[test]
    fn help_is_also_a_command() {
        assert_eq!(help("bandsync help"), help("bandsync --help"));
        assert_eq!(help("bandsync help check"), help("bandsync check --help"));
    }

    #[test]
    fn the_help_shows_unit_range_and_both_defaults() {
        let help = explanation(&crate::config::table::SCROLL_TICK_INTERVAL);
        for part in [
            "from 4 to 1000 ms",
            "16 ms in development, 8 ms in production",
            "[SCROLL_TICK_INTERVAL]",
        ] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }
}
