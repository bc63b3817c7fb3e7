// SPDX-License-Identifier: Apache-2.0
//! What bench/memory.c measures of libimpost, measured of vm-memory: the same cases by the same names, the same
//! loops and the same clock. Reads the name of a case from each line of its input, takes it once, and answers with
//! a line of numbers; bench/run asks both programs in turns.

use std::arch::asm;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::mmap::NewBitmap;
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap,
    GuestRegionMmap, MmapRegion,
};

mod cases;
use cases::*;

type Memory = GuestMemoryMmap<()>;

/// A value that the compiler knows nothing of; it must also take all memory for changed. The C side has the same.
#[inline(always)]
fn opaque(mut value: u64) -> u64 {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Nanoseconds of each of `count` operations that `run` does.
fn time(count: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}

fn regions<B: NewBitmap>(count: u64, bytes: u64) -> GuestMemoryMmap<B> {
    let ranges: Vec<_> = (0..count)
        .map(|i| (GuestAddress(i * bytes), bytes as usize))
        .collect();
    GuestMemoryMmap::from_ranges(&ranges).unwrap()
}

/// The regions that are looked up, and a page that is far from them.
fn regions_far() -> Memory {
    let mut ranges: Vec<_> = (0..FIND_REGIONS)
        .map(|i| (GuestAddress(i * FIND_BYTES), FIND_BYTES as usize))
        .collect();
    ranges.push((GuestAddress(FIND_FAR), 4096));
    GuestMemoryMmap::from_ranges(&ranges).unwrap()
}

/// Looks all of `addresses` up, FIND_TURNS times.
fn find(memory: &Memory, addresses: &[u64]) -> f64 {
    time(FIND_TURNS * addresses.len() as u64, || {
        for _ in 0..FIND_TURNS {
            for address in addresses {
                let region = memory.find_region(GuestAddress(opaque(*address)));
                opaque(region.unwrap() as *const GuestRegionMmap as u64);
            }
        }
    })
}

/// Where copies go and come from: away from where in their pages those in memory begin and end, as in
/// bench/memory_access.c.
#[repr(align(4096))]
struct Page([u8; 4096]);

fn copy_read(memory: &Memory, addresses: &[u64]) -> f64 {
    let mut page = Page([0x5a; 4096]);
    let buf = &mut page.0[1024..];

    time(COPIES, || {
        for _ in 0..COPIES / addresses.len() as u64 {
            for address in addresses {
                let bytes = opaque(COPY_BYTES as u64) as usize;
                memory
                    .read_slice(&mut buf[..bytes], GuestAddress(opaque(*address)))
                    .unwrap();
                opaque(buf.as_ptr() as u64);
            }
        }
    })
}

fn copy_write(memory: &Memory, addresses: &[u64]) -> f64 {
    let page = Page([0x5a; 4096]);
    let buf = &page.0[1024..];

    opaque(buf.as_ptr() as u64);
    time(COPIES, || {
        for _ in 0..COPIES / addresses.len() as u64 {
            for address in addresses {
                let bytes = opaque(COPY_BYTES as u64) as usize;
                memory
                    .write_slice(&buf[..bytes], GuestAddress(opaque(*address)))
                    .unwrap();
            }
        }
    })
}

fn object_read(memory: &Memory) -> f64 {
    time(OBJECT_TURNS * OBJECTS, || {
        for _ in 0..OBJECT_TURNS {
            for i in 0..OBJECTS {
                let value: u64 = memory.read_obj(GuestAddress(opaque(i * 8))).unwrap();
                opaque(value);
            }
        }
    })
}

fn object_write<B: Bitmap + 'static>(memory: &GuestMemoryMmap<B>) -> f64 {
    time(OBJECT_TURNS * OBJECTS, || {
        for _ in 0..OBJECT_TURNS {
            for i in 0..OBJECTS {
                memory.write_obj(i, GuestAddress(opaque(i * 8))).unwrap();
            }
        }
    })
}

/// Objects with a guard for each: the memory can be another from one to the next.
fn guard_read(memory: &GuestMemoryAtomic<Memory>) -> f64 {
    time(OBJECT_TURNS * OBJECTS, || {
        for _ in 0..OBJECT_TURNS {
            for i in 0..OBJECTS {
                let address = GuestAddress(opaque(i * 8));
                let value: u64 = memory.memory().read_obj(address).unwrap();
                opaque(value);
            }
        }
    })
}

fn guard_write(memory: &GuestMemoryAtomic<Memory>) -> f64 {
    time(OBJECT_TURNS * OBJECTS, || {
        for _ in 0..OBJECT_TURNS {
            for i in 0..OBJECTS {
                let address = GuestAddress(opaque(i * 8));
                memory.memory().write_obj(i, address).unwrap();
            }
        }
    })
}

/// Reads with a guard for each, until told to stop. Returns how many, and the CPU seconds they took.
fn read_until(
    memory: &GuestMemoryAtomic<Memory>,
    addresses: &[u64],
    stop: &AtomicBool,
) -> (u64, f64) {
    let start = cpu_seconds();
    let mut reads = 0;

    while !stop.load(Ordering::Relaxed) {
        for address in addresses {
            let value: u64 = memory
                .memory()
                .read_obj(GuestAddress(opaque(*address)))
                .unwrap();
            opaque(value);
        }
        reads += addresses.len() as u64;
    }
    (reads, cpu_seconds() - start)
}

/// Adds a region behind the others, and removes it.
fn change(memory: &GuestMemoryAtomic<Memory>) {
    let base = GuestAddress(SWAP_REGIONS * SWAP_BYTES);
    let region = MmapRegion::new(SWAP_BYTES as usize).unwrap();
    let region = Arc::new(GuestRegionMmap::new(region, base).unwrap());

    let guard = memory.lock().unwrap();
    let map = memory.memory().insert_region(region).unwrap();
    guard.replace(map);
    let guard = memory.lock().unwrap();
    let (map, _) = memory.memory().remove_region(base, SWAP_BYTES).unwrap();
    guard.replace(map);
}

/// Reads a second of all readers, reads a CPU second of theirs, and pairs of changes a second.
fn hot_swap(pace: Pace) -> [f64; 3] {
    let memory = GuestMemoryAtomic::new(regions(SWAP_REGIONS, SWAP_BYTES));
    let addresses = swap_addresses();
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(SWAP_READERS + 1);

    thread::scope(|scope| {
        let readers: Vec<_> = (0..SWAP_READERS)
            .map(|_| {
                scope.spawn(|| {
                    ready.wait();
                    read_until(&memory, &addresses, &stop)
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        let changes = pace.run(|| change(&memory));
        stop.store(true, Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        let done: Vec<_> = readers.into_iter().map(|r| r.join().unwrap()).collect();
        let reads: u64 = done.iter().map(|d| d.0).sum();
        let cpu: f64 = done.iter().map(|d| d.1).sum();
        [
            reads as f64 / seconds,
            reads as f64 / cpu,
            changes as f64 / seconds,
        ]
    })
}

/// CPU time of the calling thread.
fn cpu_seconds() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is what the call wants.
    let err = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(err, 0);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

struct Bench {
    find: Memory,
    find_far: Memory,
    find_bases: Vec<u64>,
    find_random: Vec<u64>,
    copy: GuestMemoryAtomic<Memory>,
    tracked: GuestMemoryMmap<AtomicBitmap>,
}

impl Bench {
    /// The numbers of a case; `None`: there is none of that name.
    fn take(&self, case: &str) -> Option<Vec<f64>> {
        Some(match case {
            "find-bases" => vec![find(&self.find, &self.find_bases)],
            "find-random" => vec![find(&self.find, &self.find_random)],
            "find-far" => vec![find(&self.find_far, &self.find_random)],
            "object-read" => vec![object_read(&self.copy.memory())],
            "object-write" => vec![object_write(&self.copy.memory())],
            "tracked-write" => vec![object_write(&self.tracked)],
            "guard-read" => vec![guard_read(&self.copy)],
            "guard-write" => vec![guard_write(&self.copy)],
            "swap-still" => hot_swap(Pace::Still).to_vec(),
            "swap-paced" => hot_swap(Pace::Paced).to_vec(),
            "swap-flat" => hot_swap(Pace::Flat).to_vec(),
            _ => {
                let (run, place): (fn(&Memory, &[u64]) -> f64, _) = match (
                    case.strip_prefix("copy-read-"),
                    case.strip_prefix("copy-write-"),
                ) {
                    (Some(place), _) => (copy_read, place),
                    (_, Some(place)) => (copy_write, place),
                    _ => return None,
                };
                vec![run(&self.copy.memory(), &copy_addresses(place)?)]
            }
        })
    }
}

fn main() -> io::Result<()> {
    let bench = Bench {
        find: regions(FIND_REGIONS, FIND_BYTES),
        find_far: regions_far(),
        find_bases: find_bases(),
        find_random: find_random(),
        copy: GuestMemoryAtomic::new(regions(COPY_REGIONS, COPY_REGION)),
        tracked: regions(COPY_REGIONS, COPY_REGION),
    };

    for line in io::stdin().lock().lines() {
        let case = line?;
        let numbers = bench
            .take(&case)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, case))?;
        let text: Vec<_> = numbers.iter().map(|n| format!("{n:.3}")).collect();
        println!("{}", text.join(" "));
        io::stdout().flush()?;
    }
    Ok(())
}
