//! Catching up: blocks that others decided are taken over with their certificates, without voting.
//!
//! A node asks one peer at a time, for as many blocks as that peer cares to send, and tries another one when the answer
//! stays away. A certificate is verified against the set that this node's own head commits to before anything else.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{Engine, Output, Peer, Timer, parse_decided};
use crate::message::{DecidedBlock, Message};

/// Decided blocks that wait for the one before them.
const WAITING_MAX: usize = 64;
/// Bytes of them together.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Who is how far, and what is under way.
#[derive(Debug)]
pub(super) struct CatchUp {
    every: Duration,
    heads: HashMap<Peer, u64>,
    turn: usize,
    waiting: BTreeMap<u64, (Peer, DecidedBlock)>,
    waiting_bytes: usize,
    /// A block of the current height is being taken over.
    adopting: bool,
    /// The height asked for, and for how many looks no answer has come.
    asked: Option<(u64, u32)>,
}

impl CatchUp {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            heads: HashMap::new(),
            turn: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            adopting: false,
            asked: None,
        }
    }

    pub(super) fn connected(&mut self, peer: Peer) {
        self.heads.entry(peer).or_insert(0);
    }

    pub(super) fn disconnected(&mut self, peer: Peer) {
        self.heads.remove(&peer);
    }

    /// Peers take turns.
    pub(super) fn any_peer(&mut self) -> Option<Peer> {
        self.peer_at(0)
    }

    /// A peer that has decided this height, by turns.
    fn peer_at(&mut self, height: u64) -> Option<Peer> {
        let mut peers: Vec<_> = self.heads.iter().filter(|(_, head)| **head >= height).map(|(peer, _)| *peer).collect();
        peers.sort_unstable();
        self.turn = self.turn.wrapping_add(1);
        (!peers.is_empty()).then(|| peers[self.turn % peers.len()])
    }

    fn wait(&mut self, height: u64, peer: Peer, decided: DecidedBlock) {
        let bytes = decided.block.len() + decided.certificate.len();
        let room = self.waiting.len() < WAITING_MAX && self.waiting_bytes + bytes <= WAITING_BYTES_MAX;
        if room && !self.waiting.contains_key(&height) {
            self.waiting_bytes += bytes;
            self.waiting.insert(height, (peer, decided));
        }
    }

    /// The block with this number if it is waiting; older ones are forgotten.
    fn next(&mut self, height: u64) -> Option<(Peer, DecidedBlock)> {
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() <= height
        {
            let (number, (peer, decided)) = entry.remove_entry();
            self.waiting_bytes -= decided.block.len() + decided.certificate.len();
            if number == height {
                return Some((peer, decided));
            }
        }
        None
    }
}

impl Engine {
    pub(super) fn on_status(&mut self, peer: Peer, head: u64) {
        let known = self.catch_up.heads.entry(peer).or_insert(0);
        *known = (*known).max(head);
        // One block behind is what every node is for a moment; two are not.
        if head > self.height() {
            self.ask();
        }
    }

    pub(super) fn on_catch_up_timer(&mut self) {
        let (every, height) = (self.catch_up.every, self.height());
        self.effects.outputs.push(Output::SetTimer(Timer::CatchUp, every));
        self.effects.outputs.push(Output::Broadcast(Message::Status { height: height.saturating_sub(1) }));
        match &mut self.catch_up.asked {
            // An answer may take a while; after two looks somebody else is asked.
            Some((asked, looks)) if *asked == height && *looks < 2 => *looks += 1,
            _ => {
                self.catch_up.asked = None;
                self.ask();
            }
        }
    }

    fn ask(&mut self) {
        let height = self.height();
        let busy = self.catch_up.adopting || self.catch_up.asked.is_some_and(|(asked, _)| asked >= height);
        if busy || self.catch_up.waiting.contains_key(&height) {
            return;
        }
        if let Some(peer) = self.catch_up.peer_at(height) {
            self.catch_up.asked = Some((height, 0));
            self.effects.outputs.push(Output::Send(peer, Message::SyncRequest { from: height }));
        }
    }

    pub(super) fn on_sync_request(&mut self, peer: Peer, from: u64) {
        if from < self.height() {
            self.effects.outputs.push(Output::Serve { peer, from });
        }
    }

    pub(super) fn on_decided(&mut self, peer: Peer, decided: DecidedBlock) {
        let Some(certificate) = parse_decided(&decided) else {
            self.effects.outputs.push(Output::Blame(peer, "a malformed certificate"));
            return;
        };
        let height = self.height();
        if certificate.height >= height && certificate.height < height + WAITING_MAX as u64 {
            self.catch_up.wait(certificate.height, peer, decided);
            self.adopt_next();
        }
    }

    /// Takes over the waiting block of the current height, if there is one with a certificate that holds.
    pub(super) fn adopt_next(&mut self) {
        if self.catch_up.adopting || self.effects.decided.is_some() {
            return;
        }
        let height = self.height();
        let Some((peer, decided)) = self.catch_up.next(height) else {
            if self.catch_up.heads.values().any(|head| *head > height) {
                self.ask();
            }
            return;
        };
        let set_hash = self.effects.set.hash();
        let verified = parse_decided(&decided)
            .filter(|one| one.verify(&self.effects.domain, height, one.block_hash, set_hash).is_ok());
        match verified {
            Some(certificate) => {
                self.catch_up.adopting = true;
                self.effects.certified = Some(decided.certificate);
                self.effects.outputs.push(Output::Adopt { peer, certificate, block: decided.block });
            }
            None => {
                self.effects.outputs.push(Output::Blame(peer, "a certificate that proves nothing"));
                self.catch_up.asked = None;
            }
        }
    }

    pub(super) fn on_refused(&mut self, height: u64, peer: Peer) {
        if height != self.height() {
            return;
        }
        self.catch_up.adopting = false;
        self.catch_up.asked = None;
        self.effects.outputs.push(Output::Blame(peer, "a block that its certificate is not for"));
    }

    pub(super) fn adopted(&mut self) {
        self.catch_up.adopting = false;
    }
}
