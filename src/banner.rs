//! What a person sees at start: where the band can connect, and how to end it.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr};

use log::debug;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::config::Config;
use crate::process::tell;
use crate::storage::Place;

/// Prints it on standard output, whatever the log's level: whoever starts a server wants to know where it is.
pub fn show(config: &Config, port: u16) {
    let interfaces = interfaces();
    let addresses = reachable(config.host, &interfaces);
    tell(text(config, port, &addresses).trim_end());
    if io::stdout().is_terminal()
        && let Some(address) = best_for_tablets(config.host, &interfaces)
        && let Ok(code) = QrCode::new(url(address, port))
    {
        // Most terminals are dark, and a code is read as dark on light: what is light is drawn.
        let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        tell(&format!("\n{drawn}\n{}\n", url(address, port)));
    }
}

fn text(config: &Config, port: u16, addresses: &[IpAddr]) -> String {
    let mut text = format!("BandSync {} ({})\n", env!("CARGO_PKG_VERSION"), config.profile.name());
    let mut line = |what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what:<9}{value}");
    };
    for (place, address) in addresses.iter().enumerate() {
        line(if place == 0 { "open" } else { "" }, &url(*address, port));
    }
    if addresses.iter().all(IpAddr::is_loopback) {
        // With all addresses allowed there is nothing to set: the machine itself has no other.
        let advice = if config.host.is_unspecified() {
            "no network found: join the tablets' Wi-Fi, then start again"
        } else {
            "--host all lets tablets on the same network connect"
        };
        line("", &format!("(this machine only: {advice})"));
    }
    line("shards", &config.shards.to_string());
    line("storage", &kept(&config.storage.place));
    line("stop", "Ctrl-C");
    text
}

/// Where sessions are, and what that means to whoever starts the server.
fn kept(place: &Place) -> String {
    match place {
        Place::Memory => "memory: sessions end with the process".to_owned(),
        Place::File(Some(directory)) => format!("file in {}", directory.display()),
        Place::File(None) => "file, but there is no place for it: name one with --data".to_owned(),
        Place::Redis(_) => "Redis".to_owned(),
    }
}

fn url(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("http://{address}:{port}/"),
        IpAddr::V6(address) => format!("http://[{address}]:{port}/"),
    }
}

/// A network interface's name and address.
type Interface = (String, IpAddr);

fn interfaces() -> Vec<Interface> {
    match if_addrs::get_if_addrs() {
        Ok(all) => all
            .into_iter()
            .filter(|one| !one.is_link_local())
            .map(|one| (one.name.clone(), one.ip()))
            .collect(),
        Err(error) => {
            debug!("the machine's addresses cannot be listed: {error}");
            Vec::new()
        }
    }
}

/// Where a server that listens on `host` can be reached: this machine first, then IPv4, then IPv6. Of the
/// loopback addresses only 127.0.0.1 is told, since the others lead to the same place.
fn reachable(host: IpAddr, interfaces: &[Interface]) -> Vec<IpAddr> {
    if !host.is_unspecified() {
        return vec![host];
    }
    let fits = |address: &IpAddr| !address.is_loopback() && (address.is_ipv4() || host.is_ipv6());
    let mut addresses: Vec<IpAddr> = interfaces.iter().map(|(_, address)| *address).filter(fits).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    addresses.insert(0, Ipv4Addr::LOCALHOST.into());
    addresses
}

/// The address that tablets on the same Wi-Fi can most likely reach: private IPv4, and not that of a network
/// that only containers and virtual machines of this machine see.
fn best_for_tablets(host: IpAddr, interfaces: &[Interface]) -> Option<IpAddr> {
    let inside =
        |name: &str| ["docker", "br-", "veth", "virbr", "vmnet"].iter().any(|start| name.starts_with(start));
    let open = reachable(host, interfaces);
    let fits = |(name, address): &&Interface| {
        open.contains(address)
            && !inside(name)
            && matches!(address, IpAddr::V4(address) if address.is_private())
    };
    interfaces.iter().find(fits).map(|(_, address)| *address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Given;

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
        let host = host.parse().unwrap();
        let urls: Vec<_> = reachable(host, &machine()).iter().map(|address| url(*address, 3001)).collect();
        assert_eq!(urls, open);
        let best = best_for_tablets(host, &machine()).map(|address| url(address, 3001));
        assert_eq!(best.as_deref(), tablets);
    }

    #[test]
    fn every_address_that_leads_here_is_told() {
        let v4 = ["http://127.0.0.1:3001/", "http://172.17.0.1:3001/", "http://192.168.1.5:3001/"];
        check("::", &[v4[0], v4[1], v4[2], "http://[fd00::5]:3001/"], Some(v4[2]));
        check("0.0.0.0", &v4, Some(v4[2]));
        check("127.0.0.1", &["http://127.0.0.1:3001/"], None);
        check("::1", &["http://[::1]:3001/"], None);
        check("192.168.1.5", &["http://192.168.1.5:3001/"], Some("http://192.168.1.5:3001/"));
    }

    #[test]
    fn a_machine_without_a_network_is_not_advised_to_set_what_is_set() {
        let told = |host: &str| {
            let command_line = [("HOST".to_owned(), host.to_owned())].into();
            let given = Given { command_line, cores: 1, ..Given::default() };
            text(&Config::check(&given).unwrap(), 4000, &["127.0.0.1".parse().unwrap()])
        };
        assert!(
            told("all").contains("no network found") && !told("all").contains("--host"),
            "{}",
            told("all")
        );
        assert!(told("127.0.0.1").contains("--host all"), "{}", told("127.0.0.1"));
    }

    #[test]
    fn a_person_learns_where_what_and_how_to_stop() {
        let given = Given { cores: 3, ..Given::default() };
        let config = Config::check(&given).unwrap();
        let text = text(&config, 4000, &["127.0.0.1".parse().unwrap()]);
        for part in [
            "(development)",
            "http://127.0.0.1:4000/",
            "this machine only",
            "shards   3",
            "storage  file",
            "Ctrl-C",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
