//! The name of this server in the local network, by the rules of RFC 6762: it asks whether a name
//! is free, announces it, answers for it, and takes another if somebody else has it.
//!
//! Nothing here waits or sends: the caller gives the time and the packets, and sends what is
//! returned.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::packet::{A, AAAA, ANY, Packet, Question, Record};

/// Number of questions before a name counts as free, and the time between them. Specified.
const PROBES: u32 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Number of announcements, and the time between them. Specified.
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// Pause of a host that asked for a name at the same time as another, and lost. Specified.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// Pause after many names were taken, so that a faulty host causes no flood. Specified.
const MANY_PAUSE: Duration = Duration::from_secs(5);
const MANY: u32 = 15;

/// Seconds for which others may keep an address. Specified for hosts.
const TTL: u32 = 120;
/// TTL for askers that do not listen to announcements. Specified as a maximum.
const LEGACY_TTL: u32 = 10;

/// Minimum time between two answers to everybody. Specified.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum time between two answers to a host that asks whether the name is free. Specified.
const DEFENCE_INTERVAL: Duration = Duration::from_millis(250);
/// Time after an answer to everybody in which single askers are answered alone. Specified.
const FRESH: Duration = Duration::from_secs(TTL as u64 / 4);

/// Port of mDNS. Askers with another one do not listen to announcements.
pub const PORT: u16 = 5353;

/// A network that the server answers in.
#[derive(Clone, Debug)]
pub struct Link {
    /// Name of the interface.
    pub name: String,
    /// Addresses of the server there.
    pub addresses: Vec<IpAddr>,
    /// Time of the last answer to everybody.
    answered: Option<Instant>,
}

/// A packet to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Out {
    /// Index of the link.
    pub link: usize,
    /// The receiver; `None` is everybody.
    pub to: Option<SocketAddr>,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// Progress with the name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Asks whether it is free. Number of questions so far.
    Probing(u32),
    /// Has it. Number of announcements so far.
    Announcing(u32),
}

/// The name, and the networks that it is announced in.
#[derive(Debug)]
pub struct Host {
    base: String,
    /// 1 is the name itself, 2 the first name with a number.
    number: u32,
    stage: Stage,
    /// Time of the next question or announcement.
    next: Option<Instant>,
    links: Vec<Link>,
    /// Addresses of this machine in all networks.
    own: Vec<IpAddr>,
}

impl Link {
    /// Creates a link without history.
    pub fn new(name: &str, addresses: Vec<IpAddr>) -> Self {
        Self { name: name.to_owned(), addresses, answered: None }
    }
}

impl Host {
    /// Creates a host without links. `base` is the first label of its name.
    pub fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            number: 1,
            stage: Stage::Probing(0),
            next: None,
            links: Vec::new(),
            own: Vec::new(),
        }
    }

    /// Returns the name, such as `bandsync.local`.
    pub fn name(&self) -> String {
        match self.number {
            1 => format!("{}.local", self.base),
            number => format!("{}-{number}.local", self.base),
        }
    }

    /// Whether the name is announced.
    pub fn is_announced(&self) -> bool {
        !self.links.is_empty() && matches!(self.stage, Stage::Announcing(sent) if sent > 0)
    }

    /// Returns the links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Sets the links, and the addresses of this machine in all networks. In a new network the name
    /// may be taken, so the host asks again.
    pub fn set_links(&mut self, links: Vec<Link>, own: Vec<IpAddr>, now: Instant) {
        self.links = links;
        self.own = own;
        self.probe(now);
    }

    /// Returns the time at which [`Host::tick`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        self.next.filter(|_| !self.links.is_empty())
    }

    /// Sends the next question or announcement if it is time.
    pub fn tick(&mut self, now: Instant) -> Vec<Out> {
        if self.next().is_none_or(|next| next > now) {
            return Vec::new();
        }
        match self.stage {
            Stage::Probing(PROBES) => {
                self.stage = Stage::Announcing(0);
                self.tick(now)
            }
            Stage::Probing(sent) => {
                self.stage = Stage::Probing(sent + 1);
                self.next = Some(now + PROBE_INTERVAL);
                (0..self.links.len()).map(|link| self.question(link)).collect()
            }
            Stage::Announcing(sent) => {
                self.stage = Stage::Announcing(sent + 1);
                self.next = (sent + 1 < ANNOUNCEMENTS).then_some(now + ANNOUNCE_INTERVAL);
                (0..self.links.len()).map(|link| self.announcement(link, TTL, now)).collect()
            }
        }
    }

    /// Returns the packets that take the name back.
    pub fn goodbye(&mut self, now: Instant) -> Vec<Out> {
        match self.is_announced() {
            true => (0..self.links.len()).map(|link| self.announcement(link, 0, now)).collect(),
            false => Vec::new(),
        }
    }

    /// Receives a packet from a link.
    pub fn receive(
        &mut self,
        link: usize,
        from: SocketAddr,
        packet: &Packet,
        now: Instant,
    ) -> Vec<Out> {
        if link >= self.links.len() {
            return Vec::new();
        }
        if packet.is_response {
            let records = packet.answers.iter().chain(&packet.additionals);
            let ours: Vec<&Record> =
                records.into_iter().filter(|record| record.name == self.name()).collect();
            if ours.iter().any(|record| record.ttl > 0 && self.is_another(record)) {
                self.lose(now);
            } else if self.is_announced() && ours.iter().any(|record| record.ttl == 0) {
                // Another server on this machine ends. Its addresses are ours too.
                self.stage = Stage::Announcing(1);
                self.next = Some(now + ANNOUNCE_INTERVAL);
            }
            return Vec::new();
        }
        match self.stage {
            Stage::Probing(_) => {
                self.compete(link, packet, now);
                Vec::new()
            }
            Stage::Announcing(_) => self.answer(link, from, packet, now).into_iter().collect(),
        }
    }

    fn probe(&mut self, now: Instant) {
        self.stage = Stage::Probing(0);
        self.next = Some(now);
    }

    /// Whether a record gives our name to another machine.
    fn is_another(&self, record: &Record) -> bool {
        let address = record.to_address().filter(|_| record.name == self.name());
        address.is_some_and(|address| !self.own.contains(&address))
    }

    /// Acts on an answer that gives our name to another machine. A name that was announced is asked
    /// for again: the other machine may have just left.
    fn lose(&mut self, now: Instant) {
        let was_announced = matches!(self.stage, Stage::Announcing(_));
        self.probe(now);
        if !was_announced {
            self.number += 1;
            if self.number.is_multiple_of(MANY) {
                self.next = Some(now + MANY_PAUSE);
            }
        }
    }

    /// Compares our records with those of another host that asks for the same name at the same
    /// time. The host with the lesser ones waits, and then finds the name taken.
    fn compete(&mut self, link: usize, packet: &Packet, now: Instant) {
        let name = self.name();
        let order = |records: Vec<Record>| {
            let mut keys: Vec<(u16, Vec<u8>)> =
                records.into_iter().map(|record| (record.kind, record.data)).collect();
            keys.sort();
            keys
        };
        let theirs: Vec<Record> =
            packet.authorities.iter().filter(|record| record.name == name).cloned().collect();
        if theirs.iter().any(|record| self.is_another(record))
            && order(theirs) > order(self.records(link, TTL))
        {
            self.probe(now + LOST_PAUSE);
        }
    }

    fn records(&self, link: usize, ttl: u32) -> Vec<Record> {
        let name = self.name();
        let addresses = &self.links[link].addresses;
        addresses.iter().map(|address| Record::address(&name, *address, ttl)).collect()
    }

    /// Returns the record that denies all types but those of the addresses.
    fn denial(&self, link: usize, ttl: u32) -> Record {
        let mut kinds: Vec<u16> =
            self.records(link, ttl).iter().map(|record| record.kind).collect();
        kinds.sort_unstable();
        Record::types(&self.name(), &kinds, ttl)
    }

    /// Asks whether anybody has the name.
    fn question(&self, link: usize) -> Out {
        let question = Question { name: self.name(), kind: ANY, wants_unicast: false };
        let authorities = self.records(link, TTL);
        let packet = Packet { questions: vec![question], authorities, ..Packet::default() };
        Out { link, to: None, bytes: packet.print(false) }
    }

    fn announcement(&mut self, link: usize, ttl: u32, now: Instant) -> Out {
        self.links[link].answered = Some(now);
        let answers = self.records(link, ttl);
        let packet = Packet { is_response: true, answers, ..Packet::default() };
        Out { link, to: None, bytes: packet.print(true) }
    }

    /// Answers the questions about our name.
    fn answer(
        &mut self,
        link: usize,
        from: SocketAddr,
        packet: &Packet,
        now: Instant,
    ) -> Option<Out> {
        let name = self.name();
        let asked: Vec<&Question> =
            packet.questions.iter().filter(|question| question.name == name).collect();
        if asked.is_empty() {
            return None;
        }
        let is_legacy = from.port() != PORT;
        let ttl = if is_legacy { LEGACY_TTL } else { TTL };
        let (mut answers, mut additionals): (Vec<Record>, Vec<Record>) =
            self.records(link, ttl).into_iter().partition(|record| {
                asked.iter().any(|question| [ANY, record.kind].contains(&question.kind))
            });
        let answered = answers.clone();
        let is_missing = |question: &&&Question| {
            question.kind != ANY && answered.iter().all(|record| record.kind != question.kind)
        };
        if asked.iter().any(|question| is_missing(&question)) {
            answers.push(self.denial(link, ttl));
        } else if [A, AAAA]
            .iter()
            .any(|kind| answers.iter().chain(&additionals).all(|record| record.kind != *kind))
        {
            additionals.push(self.denial(link, ttl));
        }
        if is_legacy {
            let questions = asked.into_iter().cloned().collect();
            let packet = Packet {
                id: packet.id,
                is_response: true,
                questions,
                answers,
                additionals,
                ..Packet::default()
            };
            return Some(Out { link, to: Some(from), bytes: packet.print(false) });
        }
        // Those that the asker knows already, and will know for a while.
        let is_known = |record: &Record| {
            let same = |known: &&Record| known.kind == record.kind && known.data == record.data;
            let known = packet.answers.iter().filter(|known| known.name == name).find(same);
            known.is_some_and(|known| known.ttl >= TTL / 2)
        };
        answers.retain(|record| !is_known(record));
        if answers.is_empty() {
            return None;
        }
        let since = |link: &Link| link.answered.map(|at| now.duration_since(at));
        let since = since(&self.links[link]);
        let is_probe = packet.authorities.iter().any(|record| record.name == name);
        let is_alone = asked.iter().all(|question| question.wants_unicast) && !is_probe;
        let to = (is_alone && since.is_some_and(|since| since < FRESH)).then_some(from);
        let interval = if is_probe { DEFENCE_INTERVAL } else { ANSWER_INTERVAL };
        if to.is_none() {
            if since.is_some_and(|since| since < interval) {
                return None;
            }
            self.links[link].answered = Some(now);
        }
        let packet = Packet { is_response: true, answers, additionals, ..Packet::default() };
        Some(Out { link, to, bytes: packet.print(true) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::mdns::packet::{NSEC, read};

    const OURS: [u8; 4] = [192, 168, 1, 5];
    const THEIRS: [u8; 4] = [192, 168, 1, 9];

    fn peer(port: u16) -> SocketAddr {
        (THEIRS, port).into()
    }

    fn host(address: [u8; 4], now: Instant) -> Host {
        let mut host = Host::new("bandsync");
        let links = vec![Link::new("wlan0", vec![address.into()])];
        host.set_links(links, vec![address.into()], now);
        host
    }

    /// Lets time pass until the host has nothing more to do, or `steps` times.
    fn run(host: &mut Host, now: &mut Instant, steps: usize) -> Vec<Packet> {
        let mut sent = Vec::new();
        for _ in 0..steps {
            let Some(next) = host.next() else { break };
            *now = (*now).max(next);
            sent.extend(host.tick(*now).iter().map(|out| read(&out.bytes).unwrap()));
        }
        sent
    }

    fn announced(now: &mut Instant) -> Host {
        let mut host = host(OURS, *now);
        run(&mut host, now, 10);
        assert!(host.is_announced());
        *now += ANSWER_INTERVAL;
        host
    }

    fn question(kind: u16, wants_unicast: bool) -> Packet {
        let name = "bandsync.local".to_owned();
        Packet {
            id: 9,
            questions: vec![Question { name, kind, wants_unicast }],
            ..Packet::default()
        }
    }

    fn claim(address: [u8; 4], ttl: u32) -> Packet {
        let answers = vec![Record::address("bandsync.local", address.into(), ttl)];
        Packet { is_response: true, answers, ..Packet::default() }
    }

    fn addresses(packet: &Packet) -> Vec<IpAddr> {
        packet.answers.iter().filter_map(Record::to_address).collect()
    }

    #[test]
    fn a_free_name_is_asked_for_three_times_then_announced_twice() {
        let start = Instant::now();
        let mut now = start;
        let mut host = host(OURS, now);
        let sent = run(&mut host, &mut now, 3);
        assert!(sent.iter().all(|packet| !packet.is_response && packet.authorities.len() == 1));
        assert!(!host.is_announced());
        let sent = [sent, run(&mut host, &mut now, 10)].concat();
        let responses: Vec<bool> = sent.iter().map(|packet| packet.is_response).collect();
        assert_eq!(responses, [false, false, false, true, true]);
        assert_eq!(addresses(&sent[3]), [IpAddr::from(OURS)]);
        assert_eq!(now - start, Duration::from_millis(1_750));
        assert!(host.is_announced() && host.name() == "bandsync.local");
    }

    #[test]
    fn a_question_is_answered_to_all_and_at_most_once_a_second() {
        let mut now = Instant::now();
        let mut host = announced(&mut now);
        let mut ask = |now| host.receive(0, peer(PORT), &question(A, false), now);
        let sent = ask(now);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].to, None);
        let packet = read(&sent[0].bytes).unwrap();
        assert_eq!(addresses(&packet), [IpAddr::from(OURS)]);
        // The asker learns that there is no IPv6 address, so it need not ask.
        assert_eq!(packet.additionals[0].kind, NSEC);
        assert_eq!(ask(now + Duration::from_millis(900)), []);
        assert_eq!(ask(now + ANSWER_INTERVAL).len(), 1);
    }

    #[test]
    fn a_type_that_does_not_exist_is_denied() {
        let mut now = Instant::now();
        for kind in [AAAA, 65] {
            let sent = announced(&mut now).receive(0, peer(PORT), &question(kind, false), now);
            let packet = read(&sent[0].bytes).unwrap();
            assert_eq!(packet.answers.len(), 1);
            assert_eq!(packet.answers[0].kind, NSEC);
            assert!(
                packet.answers[0].data.ends_with(&[0, 1, 0x40]),
                "{:?}",
                packet.answers[0].data
            );
        }
    }

    #[test]
    fn a_single_asker_is_answered_alone_if_all_were_answered_lately() {
        let mut now = Instant::now();
        let mut host = announced(&mut now);
        let sent = host.receive(0, peer(PORT), &question(A, true), now);
        assert_eq!(sent[0].to, Some(peer(PORT)));
        let sent = host.receive(0, peer(PORT), &question(A, true), now + FRESH);
        assert_eq!(sent[0].to, None);
    }

    #[test]
    fn a_program_that_does_not_listen_gets_an_answer_as_from_any_name_server() {
        let mut now = Instant::now();
        let sent = announced(&mut now).receive(0, peer(40_000), &question(A, false), now);
        assert_eq!(sent[0].to, Some(peer(40_000)));
        let packet = read(&sent[0].bytes).unwrap();
        assert_eq!((packet.id, packet.questions.len()), (9, 1));
        assert_eq!(packet.answers[0].ttl, LEGACY_TTL);
    }

    #[test]
    fn other_names_and_known_answers_are_not_answered() {
        let mut now = Instant::now();
        let mut host = announced(&mut now);
        let mut other = question(A, false);
        other.questions[0].name = "other.local".into();
        assert_eq!(host.receive(0, peer(PORT), &other, now), []);
        let known = Packet { answers: claim(OURS, TTL).answers, ..question(A, false) };
        assert_eq!(host.receive(0, peer(PORT), &known, now), []);
        assert_eq!(host.receive(7, peer(PORT), &question(A, false), now), [], "no such link");
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let mut now = Instant::now();
        let mut host = host(OURS, now);
        run(&mut host, &mut now, 1);
        host.receive(0, peer(PORT), &claim(OURS, TTL), now);
        assert_eq!(host.name(), "bandsync.local", "its own answer, from another interface");
        host.receive(0, peer(PORT), &claim(THEIRS, 0), now);
        assert_eq!(host.name(), "bandsync.local", "another machine gives the name back");
        host.receive(0, peer(PORT), &claim(THEIRS, TTL), now);
        assert_eq!(host.name(), "bandsync-2.local");
        run(&mut host, &mut now, 10);
        assert!(host.is_announced());
    }

    #[test]
    fn of_two_that_ask_at_once_one_gets_the_name() {
        let mut now = Instant::now();
        let mut hosts = [host(OURS, now), host(THEIRS, now)];
        for _ in 0..60 {
            for one in 0..2 {
                for out in hosts[one].tick(now) {
                    let packet = read(&out.bytes).unwrap();
                    let other = 1 - one;
                    for answer in hosts[other].receive(0, peer(PORT), &packet, now) {
                        let packet = read(&answer.bytes).unwrap();
                        hosts[one].receive(0, peer(PORT), &packet, now);
                    }
                }
            }
            now += Duration::from_millis(125);
        }
        assert!(hosts.iter().all(Host::is_announced));
        let names = hosts.each_ref().map(Host::name);
        assert_eq!(names, ["bandsync-2.local", "bandsync.local"]);
    }

    #[test]
    fn a_host_that_finds_its_name_elsewhere_asks_again_and_gives_way() {
        let mut now = Instant::now();
        let mut host = announced(&mut now);
        host.receive(0, peer(PORT), &claim(THEIRS, TTL), now);
        assert_eq!((host.is_announced(), host.name().as_str()), (false, "bandsync.local"));
        run(&mut host, &mut now, 1);
        host.receive(0, peer(PORT), &claim(THEIRS, TTL), now);
        run(&mut host, &mut now, 10);
        assert_eq!((host.is_announced(), host.name().as_str()), (true, "bandsync-2.local"));
    }

    #[test]
    fn endless_conflicts_slow_it_down() {
        let start = Instant::now();
        let mut now = start;
        let mut host = host(OURS, now);
        for _ in 0..60 {
            run(&mut host, &mut now, 1);
            let answers = vec![Record::address(&host.name(), THEIRS.into(), TTL)];
            let packet = Packet { is_response: true, answers, ..Packet::default() };
            host.receive(0, peer(PORT), &packet, now);
        }
        assert!(now - start >= MANY_PAUSE * 3, "{:?}", now - start);
    }

    #[test]
    fn the_name_is_taken_back_at_the_end_and_announced_again_for_a_neighbour() {
        let mut now = Instant::now();
        let mut host = announced(&mut now);
        let goodbye = host.goodbye(now);
        let packet = read(&goodbye[0].bytes).unwrap();
        assert_eq!((addresses(&packet), packet.answers[0].ttl), (vec![OURS.into()], 0));
        let mut neighbour = announced(&mut now);
        neighbour.receive(0, peer(PORT), &packet, now);
        let sent = run(&mut neighbour, &mut now, 1);
        assert_eq!(sent[0].answers[0].ttl, TTL);
    }

    #[test]
    fn without_a_network_there_is_nothing_to_do() {
        let mut now = Instant::now();
        let mut host = announced(&mut now);
        host.set_links(Vec::new(), Vec::new(), now);
        assert_eq!((host.next(), host.is_announced()), (None, false));
        assert_eq!((host.tick(now), host.goodbye(now)), (Vec::new(), Vec::new()));
    }
}
