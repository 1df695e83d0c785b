//! Acts that need nothing but memory and the kernel.

use std::{hint::black_box, io};

use nix::unistd;

use super::Timer;
use crate::sys::{cpu, signal::Kick};

/// Sizes that are allocated in turn, in bytes: mostly small ones, as programs ask for, and some that the allocator gets from
/// the kernel.
const SIZES: [usize; 16] =
    [16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 16 * 1024, 64 * 1024, 256 * 1024];

/// Pieces that are kept at a time: what is freed is an older one.
const KEPT: usize = 64;

/// Every page of a piece is touched.
const PAGE: usize = 4096;

pub(super) fn allocate(timer: &mut Timer) -> io::Result<()> {
    let mut kept: [Vec<u8>; KEPT] = [const { Vec::new() }; KEPT];
    let mut turn: usize = 0;
    timer.batch(u64::MAX, || {
        let size = SIZES.get(turn % SIZES.len()).copied().unwrap_or(PAGE);
        let mut piece = Vec::with_capacity(size);
        piece.resize(size.min(PAGE), 1_u8);
        // Zeroes would come untouched from the kernel.
        while piece.len() < size {
            piece.resize(size.min(piece.len() + PAGE), 1);
        }
        if let Some(place) = kept.get_mut(turn * 7 % KEPT) {
            *place = black_box(piece);
        }
        turn = turn.wrapping_add(1);
        Ok(())
    })?;
    drop(black_box(kept));
    Ok(())
}

pub(super) fn signals(timer: &mut Timer) -> io::Result<()> {
    let signal = Kick::new()?;
    signal.receive();
    let tid = cpu::current_thread();
    timer
        .batch(u64::MAX, || {
            signal.kick(tid);
            Ok(())
        })
        .map(drop)
}

pub(super) fn getppid(timer: &mut Timer) -> io::Result<()> {
    timer
        .batch(u64::MAX, || {
            black_box(unistd::getppid());
            Ok(())
        })
        .map(drop)
}
