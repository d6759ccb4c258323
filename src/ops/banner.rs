//! The text at start: where the band can connect, and how to stop the server.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr};

use bandsync_storage::Target;
use log::debug;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::config::{Config, Effective};
use crate::ops::process::print_line;

/// Maximum lines, without the code for tablets. One more line is left for the storage's log line.
const LINES_MAX: usize = 11;

/// Maximum addresses shown, the name in the local network included.
const ADDRESSES_MAX: usize = 3;

/// Columns after which settings continue on the next line.
const COLUMNS: usize = 90;

/// Prints the text on standard output, whatever the log's level. `name`: the name that is announced
/// in the local network.
pub fn show(config: &Config, port: u16, name: Option<&str>) {
    let interfaces = interfaces();
    let tablets = best_for_tablets(config.host, &interfaces);
    let open = Open { name, reachable: &reachable(config.host, &interfaces), tablets };
    let (addresses, rest) = text(config, port, &open);
    print_line(addresses.trim_end());
    if io::stdout().is_terminal()
        && let Some(address) = tablets
        && let Ok(code) = QrCode::new(url(config, address, port))
    {
        // Most terminals are dark, and scanners expect dark on light, so the light squares are
        // drawn.
        let drawn = code
            .render::<Dense1x2>()
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .build();
        print_line(&drawn);
    }
    print_line(rest.trim_end());
}

/// The ways to reach the server.
struct Open<'a> {
    /// The name in the local network.
    name: Option<&'a str>,
    /// All addresses.
    reachable: &'a [IpAddr],
    /// The address that tablets can most likely reach.
    tablets: Option<IpAddr>,
}

/// Returns the lines above the code and those below it.
fn text(config: &Config, port: u16, open: &Open<'_>) -> (String, String) {
    let Open { name, reachable, tablets } = *open;
    let mut head = format!("BandSync {} ({})\n", env!("CARGO_PKG_VERSION"), config.profile.name());
    let mut rest = String::new();
    let line = |text: &mut String, what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what:<9}{value}");
    };
    let others = reachable.iter().copied().filter(|address| Some(*address) != tablets);
    let addresses: Vec<IpAddr> = tablets.into_iter().chain(others).collect();
    let places = ADDRESSES_MAX - usize::from(name.is_some());
    let hidden = addresses.len().saturating_sub(places);
    let shown = addresses.iter().take(places).map(|address| url(config, *address, port));
    let mut shown: Vec<String> = shown.collect();
    if let (Some(last), true) = (shown.last_mut(), hidden > 0) {
        last.push_str(&format!("  and {hidden} more of this machine's addresses"));
    }
    // The name works in that network only, so the address for tablets stays first.
    shown.splice(1..1, name.map(|name| format!("{}://{name}:{port}/", scheme(config))));
    for (index, text) in shown.iter().enumerate() {
        line(&mut head, if index == 0 { "open" } else { "" }, text);
    }
    if let Some(hint) = reachability_hint(config.host, &addresses) {
        line(&mut head, "", hint);
    }
    line(&mut rest, "storage", &storage_text(&config.storage.target));
    let pinned = if config.threads.pin { "pinned" } else { "not pinned" };
    line(
        &mut rest,
        "shards",
        &format!("{} ({}; {pinned})", config.threads.shards, config.threads.cores),
    );
    // The lines so far, the last line, and the warnings that the log begins with.
    let used = head.lines().count() + rest.lines().count() + 1 + config.notes.len();
    let assignments =
        config.effective.iter().filter(|setting| setting.differs).map(Effective::assignment);
    for (index, settings) in
        wrapped(assignments, LINES_MAX.saturating_sub(used).max(1)).iter().enumerate()
    {
        line(&mut rest, if index == 0 { "settings" } else { "" }, settings);
    }
    line(&mut rest, "stop", "Ctrl-C");
    (head, rest)
}

/// Explains why no tablet can connect, and what to do about it.
fn reachability_hint(host: IpAddr, addresses: &[IpAddr]) -> Option<&'static str> {
    if !addresses.iter().all(IpAddr::is_loopback) {
        None
    } else if host.is_unspecified() {
        Some(
            "(no network found: join the tablets' Wi-Fi, and open the address that this machine has there)",
        )
    } else {
        Some("(this machine only: --host all lets tablets on the same network connect)")
    }
}

/// Joins words into at most `lines_max` lines; the last line takes the rest.
fn wrapped(words: impl Iterator<Item = String>, lines_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let full = lines.len() >= lines_max;
        match lines.last_mut() {
            Some(line) if full || line.len() + word.len() < COLUMNS => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Describes where sessions are stored, and how long they last.
fn storage_text(target: &Target) -> String {
    match target {
        Target::Memory => "memory: sessions end with the process".to_owned(),
        Target::File(Some(directory)) => format!("file in {}", directory.display()),
        Target::File(None) => {
            "file, but no directory was found for it: name one with --data".to_owned()
        }
        Target::Redis(_) => "Redis".to_owned(),
    }
}

fn url(config: &Config, address: IpAddr, port: u16) -> String {
    let scheme = scheme(config);
    match address {
        IpAddr::V4(address) => format!("{scheme}://{address}:{port}/"),
        IpAddr::V6(address) => format!("{scheme}://[{address}]:{port}/"),
    }
}

fn scheme(config: &Config) -> &'static str {
    if config.tls.is_some() { "https" } else { "http" }
}

/// Name and address of a network interface.
type Interface = (String, IpAddr);

fn interfaces() -> Vec<Interface> {
    match if_addrs::get_if_addrs() {
        Ok(all) => all
            .into_iter()
            .filter(|one| !one.is_link_local())
            .map(|one| (one.name.clone(), one.ip()))
            .collect(),
        Err(error) => {
            debug!("cannot list the machine's addresses: {error}");
            Vec::new()
        }
    }
}

/// Returns the addresses at which a server that listens on `host` can be reached: this machine
/// first, then IPv4, then IPv6. Of the loopback addresses only 127.0.0.1 is listed, since all lead
/// to the same place.
fn reachable(host: IpAddr, interfaces: &[Interface]) -> Vec<IpAddr> {
    if !host.is_unspecified() {
        return vec![host];
    }
    let fits = |address: &IpAddr| !address.is_loopback() && (address.is_ipv4() || host.is_ipv6());
    let mut addresses: Vec<IpAddr> =
        interfaces.iter().map(|(_, address)| *address).filter(fits).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    addresses.insert(0, Ipv4Addr::LOCALHOST.into());
    addresses
}

/// Whether an interface belongs to a network for containers and virtual machines of this machine.
pub fn is_internal(name: &str) -> bool {
    ["docker", "br-", "veth", "virbr", "vmnet"].iter().any(|start| name.starts_with(start))
}

/// Returns the address that tablets on the same Wi-Fi can most likely reach: private IPv4, and not
/// of a network for containers and virtual machines of this machine.
fn best_for_tablets(host: IpAddr, interfaces: &[Interface]) -> Option<IpAddr> {
    let open = reachable(host, interfaces);
    let fits = |(name, address): &&Interface| {
        open.contains(address)
            && !is_internal(name)
            && matches!(address, IpAddr::V4(address) if address.is_private())
    };
    interfaces.iter().find(fits).map(|(_, address)| *address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::raw::{Cores, RawConfig};
    use crate::config::table::{Allowed, SETTINGS};

    fn machine() -> Vec<Interface> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("docker0", "172.17.0.1"),
            ("wlan0", "fd00::5"),
            ("wlan0", "192.168.1.5"),
        ]
        .map(|(name, address)| (name.to_owned(), address.parse().unwrap()))
        .to_vec()
    }

    #[track_caller]
    fn check(host: &str, open: &[&str], tablets: Option<&str>) {
        let (host, plain) = (host.parse().unwrap(), config(""));
        let urls: Vec<_> =
            reachable(host, &machine()).iter().map(|address| url(&plain, *address, 3001)).collect();
        assert_eq!(urls, open);
        let best = best_for_tablets(host, &machine()).map(|address| url(&plain, address, 3001));
        assert_eq!(best.as_deref(), tablets);
    }

    #[test]
    fn every_reachable_address_is_listed() {
        let v4 = ["http://127.0.0.1:3001/", "http://172.17.0.1:3001/", "http://192.168.1.5:3001/"];
        check("::", &[v4[0], v4[1], v4[2], "http://[fd00::5]:3001/"], Some(v4[2]));
        check("0.0.0.0", &v4, Some(v4[2]));
        check("127.0.0.1", &["http://127.0.0.1:3001/"], None);
        check("::1", &["http://[::1]:3001/"], None);
        check("192.168.1.5", &["http://192.168.1.5:3001/"], Some("http://192.168.1.5:3001/"));
    }

    fn config(environment: &str) -> Config {
        let pairs = environment.split(' ').filter_map(|pair| pair.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let cores = Cores { count: 3, quota: None };
        Config::check(&RawConfig { cores, environment, ..RawConfig::default() }).unwrap()
    }

    fn whole(config: &Config, reachable: &[&str], tablets: Option<&str>) -> String {
        let reachable: Vec<IpAddr> =
            reachable.iter().map(|address| address.parse().unwrap()).collect();
        let tablets = tablets.map(|address| address.parse().unwrap());
        let open = Open { name: None, reachable: &reachable, tablets };
        let (head, rest) = text(config, 4000, &open);
        head + &rest
    }

    #[test]
    fn the_banner_shows_address_storage_shards_and_how_to_stop() {
        let text = whole(&config("HOST=localhost"), &["127.0.0.1"], None);
        for part in [
            "(development)",
            "http://127.0.0.1:4000/",
            "this machine only",
            "storage  file",
            "shards   3 (3 cores; pinned)",
            "settings HOST=localhost\n",
            "Ctrl-C",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(
            whole(&config("SHARDS=1"), &["127.0.0.1"], None)
                .contains("shards   1 (3 cores; not pinned)")
        );
        assert!(!whole(&config(""), &["127.0.0.1"], None).contains("settings"));
    }

    /// The server listens on all addresses already, but the machine has none.
    #[test]
    fn a_machine_without_a_network_gets_no_advice_to_listen_everywhere() {
        let text = whole(&config(""), &["127.0.0.1"], None);
        assert!(text.contains("no network found") && !text.contains("--host all"), "{text}");
        let text = whole(&config(""), &["127.0.0.1", "192.168.1.5"], Some("192.168.1.5"));
        assert!(!text.contains("no network found") && !text.contains("--host all"), "{text}");
    }

    #[test]
    fn addresses_with_a_certificate_begin_with_https() {
        let config = config("TLS_CERT=cert.pem TLS_KEY=key.pem");
        let reachable = [Ipv4Addr::LOCALHOST.into()];
        let open = Open { name: Some("bandsync.local"), reachable: &reachable, tablets: None };
        let (head, _) = text(&config, 4000, &open);
        let lines: Vec<&str> = head.lines().skip(1).take(2).map(str::trim).collect();
        assert_eq!(lines, ["open     https://127.0.0.1:4000/", "https://bandsync.local:4000/"]);
    }

    #[test]
    fn the_address_for_tablets_is_listed_first() {
        let text =
            whole(&config(""), &["127.0.0.1", "172.17.0.1", "192.168.1.5"], Some("192.168.1.5"));
        let second = text.lines().nth(1).unwrap();
        assert_eq!(second, "  open     http://192.168.1.5:4000/");
        assert!(text.contains("http://127.0.0.1:4000/\n"), "{text}");
    }

    #[test]
    fn the_name_in_the_local_network_is_listed_if_there_is_one() {
        let reachable = ["127.0.0.1", "192.168.1.5"].map(|address| address.parse().unwrap());
        let tablets = Some(reachable[1]);
        let open = Open { name: Some("bandsync-2.local"), reachable: &reachable, tablets };
        let (head, _) = text(&config(""), 4000, &open);
        let lines: Vec<&str> = head.lines().skip(1).map(str::trim).collect();
        let expected = [
            "open     http://192.168.1.5:4000/",
            "http://bandsync-2.local:4000/",
            "http://127.0.0.1:4000/",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn it_is_at_most_twelve_lines_and_names_each_changed_setting() {
        let many: Vec<String> = SETTINGS
            .iter()
            .filter_map(|setting| match setting.allowed {
                Allowed::Whole { max, .. } => Some(format!("{}={max}", setting.variable)),
                _ => None,
            })
            .chain(
                ["REDIS_TTL=7", "NODE_ENV=test", "SERVER_ID=a", "BANDSYNC_PORT=tcp://10.0.0.1:1"]
                    .map(String::from),
            )
            .collect();
        let config = config(&many.join(" "));
        let addresses = ["127.0.0.1", "192.168.1.5", "172.17.0.1", "172.18.0.1", "fd00::5"];
        let text = whole(&config, &addresses, Some("192.168.1.5"));
        assert!(config.notes.len() + text.lines().count() < 12, "{:?}\n{text}", config.notes);
        for setting in config.effective.iter().filter(|setting| setting.differs) {
            assert!(text.contains(&setting.assignment()), "{setting} in {text}");
        }
        assert!(text.contains("and 2 more"), "{text}");
    }
}
