//! The parts of the world that members and pollers may use while they act. Never stored.

use std::net::{IpAddr, Ipv4Addr};

use super::agenda::{Agenda, Event};
use super::net::SimNet;
use super::oracle::Oracle;
use super::plan::Plan;
use super::rng::SimRng;
use super::wire::{Cable, ServerEnd, Wire};

/// The parts of a world that a client may use.
pub struct Cx<'w> {
    pub plan: &'w Plan,
    pub agenda: &'w mut Agenda,
    pub net: &'w mut SimNet,
    pub wires: &'w mut Vec<Wire>,
    pub oracle: &'w mut Oracle,
}

impl Cx<'_> {
    pub fn now(&self) -> u64 {
        self.agenda.now
    }

    /// Schedules a look at the server's end of a connection, unless an earlier one is scheduled.
    pub fn post_up(&mut self, wire: usize, at: u64) {
        self.net.post_up(self.agenda, wire, at);
    }

    /// Schedules a look at the client's end of a connection, unless an earlier one is scheduled.
    pub fn post_down(&mut self, wire: usize, at: u64) {
        self.net.post_down(self.agenda, wire, at);
    }

    /// Lets due bytes arrive at the server, and schedules a look for the rest.
    pub fn arrive_up(&mut self, wire: usize) {
        let now = self.now();
        if let Some(again) = self.net.cables[wire].up.arrive(now) {
            self.post_up(wire, again);
        }
        if let Some(shard) = self.net.report(wire) {
            self.agenda.wake(shard, now);
        }
    }

    /// Lets due bytes arrive at the client, and schedules a look for the rest.
    pub fn arrive_down(&mut self, wire: usize) {
        let now = self.now();
        if let Some(again) = self.net.cables[wire].down.arrive(now) {
            self.post_down(wire, again);
        }
    }

    /// Reports to the server's end that the client's end has room again.
    pub fn send_capacity(&mut self, wire: usize) {
        if self.net.cables[wire].awaits_writable
            && let Some(shard) = self.net.report(wire)
        {
            self.agenda.wake(shard, self.agenda.now + self.net.habits.delay);
        }
    }

    /// Sends bytes to the server.
    pub fn send(&mut self, wire: usize, bytes: &[u8]) {
        let now = self.now();
        let cable = &mut self.net.cables[wire];
        if cable.reset || cable.up.has_ended() || bytes.is_empty() {
            return;
        }
        self.wires[wire].sent_up += bytes.len() as u64;
        let at = cable.up.send(now, bytes, &self.net.habits, &mut cable.luck);
        self.post_up(wire, at);
    }

    /// Ends the stream to the server.
    pub fn end_stream(&mut self, wire: usize) {
        let now = self.now();
        self.wires[wire].ended = true;
        let cable = &mut self.net.cables[wire];
        if !cable.up.has_ended() {
            let at = cable.up.end(now, &self.net.habits);
            self.post_up(wire, at);
        }
    }

    /// Ends a connection, and stops reading it.
    pub fn let_go(&mut self, wire: usize) {
        self.end_stream(wire);
        self.wires[wire].left = true;
        if self.net.cables[wire].down.full() > 0 {
            self.post_down(wire, self.now());
        }
    }

    /// Answers bytes of a connection that the client no longer reads with a reset.
    pub fn reject_bytes(&mut self, wire: usize) {
        let now = self.now();
        let stray = self.wires[wire].stray;
        let cable = &mut self.net.cables[wire];
        let count = cable.down.here().len();
        cable.down.took(count);
        if stray {
            if cable.down.is_over(now) {
                self.end_stream(wire);
            }
            return;
        }
        if cable.end != ServerEnd::Gone
            && !cable.down.is_hole()
            && !cable.up.is_hole()
            && count > 0
            && !cable.reset
        {
            cable.reset = true;
            self.post_up(wire, now + self.net.habits.delay);
        }
    }

    /// Opens a connection of a member, its `count`th, to one of the shards.
    pub fn open(&mut self, member: u16, count: u64, stray: bool) -> usize {
        let luck = SimRng::new(self.plan.seed, 10_000 + (u64::from(member) << 20) + count);
        self.open_with(member, luck, stray)
    }

    /// Opens a connection with random numbers of its own.
    pub fn open_with(&mut self, member: u16, mut luck: SimRng, stray: bool) -> usize {
        let wire = self.wires.len();
        let shard = luck.below(u64::from(self.plan.shape.shards)) as u16;
        self.wires.push(Wire::new(member, shard, self.now(), stray));
        // The longer direction is the same for all connections of a member.
        let mut one = Cable::new(peer_of(member, false), luck);
        if member.is_multiple_of(2) {
            one.down.detour = self.net.habits.detour;
        } else {
            one.up.detour = self.net.habits.detour;
        }
        self.net.cables.push(one);
        self.agenda.post(self.now() + self.net.habits.delay, Event::Door(wire, shard));
        wire
    }

    /// Returns the socket id of a member, if it is connected.
    pub fn sid_of(&self, member: u16) -> Option<&str> {
        let own = |wire: &&Wire| wire.member == member && wire.poller.is_none() && !wire.left;
        let wire = self.wires.iter().rev().find(own)?;
        Some(wire.sid.as_str()).filter(|sid| !sid.is_empty())
    }
}

/// Returns the address of a member or a poller. Each has one of its own.
pub fn peer_of(member: u16, polls: bool) -> IpAddr {
    let [high, low] = member.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, u8::from(polls), high, low))
}
