// SPDX-License-Identifier: Apache-2.0
//! The numbers of the cases: those of bench/memory_cases.h, and changed with them.

use std::thread;
use std::time::{Duration, Instant};

pub const FIND_REGIONS: u64 = 256;
pub const FIND_BYTES: u64 = 1 << 20;
pub const FIND_TURNS: u64 = 16;
const FIND_RANDOM: usize = 4096;
pub const FIND_FAR: u64 = 1 << 46;

pub const COPY_REGIONS: u64 = 8;
pub const COPY_REGION: u64 = 2 << 30;
pub const COPY_BYTES: usize = 512;
pub const COPIES: u64 = 4096;

pub const OBJECTS: u64 = 512;
pub const OBJECT_TURNS: u64 = 16;

pub const SWAP_REGIONS: u64 = 8;
pub const SWAP_BYTES: u64 = 1 << 20;
pub const SWAP_READERS: usize = 8;
const SWAP_ADDRESSES: usize = 64;
const SWAP_SECONDS: f64 = 0.4;
const SWAP_PACE: f64 = 500.0;

/// Marsaglia's xorshift64: the same numbers on both sides.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub fn find_bases() -> Vec<u64> {
    (0..FIND_REGIONS).map(|i| i * FIND_BYTES).collect()
}

pub fn find_random() -> Vec<u64> {
    let mut random = Random(1);
    (0..FIND_RANDOM)
        .map(|_| random.below(FIND_REGIONS * FIND_BYTES))
        .collect()
}

/// Where copies begin, by the name of the place: one address again and again but for `turns`.
pub fn copy_addresses(place: &str) -> Option<Vec<u64>> {
    let half = COPY_BYTES as u64 / 2;
    Some(match place {
        "in-first" => vec![0],
        "in-last" => vec![(COPY_REGIONS - 1) * COPY_REGION],
        "in-turns" => (0..COPY_REGIONS).map(|i| i * COPY_REGION).collect(),
        "across-first" => vec![COPY_REGION - half],
        "across-last" => vec![(COPY_REGIONS - 1) * COPY_REGION - half],
        _ => return None,
    })
}

/// Aligned words in the first pages of all regions.
pub fn swap_addresses() -> Vec<u64> {
    let mut random = Random(1);
    (0..SWAP_ADDRESSES)
        .map(|_| random.below(SWAP_REGIONS) * SWAP_BYTES + random.below(512) * 8)
        .collect()
}

/// What the thread that changes the map does.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Nothing.
    Still,
    /// SWAP_PACE pairs of changes a second.
    Paced,
    /// As many as it can.
    Flat,
}

impl Pace {
    /// Calls `change` at this pace for SWAP_SECONDS. Returns how often.
    pub fn run(self, change: impl Fn()) -> u64 {
        let start = Instant::now();
        let end = Duration::from_secs_f64(SWAP_SECONDS);
        let mut count = 0;

        while start.elapsed() < end {
            let due = match self {
                Pace::Still => end,
                Pace::Paced => Duration::from_secs_f64(count as f64 / SWAP_PACE).min(end),
                Pace::Flat => Duration::ZERO,
            };
            thread::sleep(due.saturating_sub(start.elapsed()));
            if start.elapsed() < end {
                change();
                count += 1;
            }
        }
        count
    }
}
