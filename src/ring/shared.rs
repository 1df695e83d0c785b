//! A ring in a sealed memfd, seen from either side.
//!
//! `sys/shm.rs` makes and checks the mappings; here they get their types. It must hand out references to atomics
//! only, since another process may write what they point to.

#![expect(unsafe_code, reason = "the regions of a mapping are seen through references to atomics")]

use super::memory::{
    ConsumerPage, Granule, Machine, Memory, ProducerMemory, ProducersPage, Stamps, bytes_within, copy_words,
};
use super::stamp::{GRANULE_BYTES, Geometry};
use crate::sys::futex;
use crate::sys::shm::{CONTROL_BYTES, Memfd, MemfdReader, PAGE_BYTES, Regions};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

// What is placed at the start of a page must fit it, and nothing may ask for more alignment than a page has.
const _: () = assert!(
    size_of::<ProducersPage<Machine>>() == PAGE_BYTES
        && align_of::<ProducersPage<Machine>>() <= PAGE_BYTES
        && size_of::<ConsumerPage<Machine>>() == CONTROL_BYTES
        && align_of::<ConsumerPage<Machine>>() <= PAGE_BYTES
        && align_of::<Granule>() <= PAGE_BYTES
);

fn geometry(regions: &Regions) -> Geometry {
    Geometry::new(regions.ring_bytes())
        .expect("`Regions` has the bounds of `Geometry`, and a page is in them")
}

fn producers(regions: &Regions) -> &ProducersPage<Machine> {
    // SAFETY: the pointer is to a page of its own, mapped as long as `regions` is borrowed and sealed against
    // shrinking, and page-aligned. The type fits it and is made of atomics, for which any bytes are a value; through a
    // read-only mapping they are only loaded from.
    unsafe { regions.producers().cast().as_ref() }
}

fn consumer(regions: &Regions) -> &ConsumerPage<Machine> {
    // SAFETY: as in `producers`, with the page of the control memfd.
    unsafe { regions.control().cast().as_ref() }
}

fn stamps(regions: &Regions) -> &[AtomicU64] {
    let stamps = regions.stamps().cast().as_ptr();
    // SAFETY: the region of stamps starts on a page, has a word for each 64 bytes of data, and stays mapped as
    // long as `regions` is borrowed. Any bytes are an `AtomicU64`.
    unsafe { std::slice::from_raw_parts(stamps, regions.ring_bytes() / GRANULE_BYTES) }
}

fn data(regions: &Regions) -> &[Granule] {
    let data = regions.data().cast().as_ptr();
    // SAFETY: the region of data starts on a page, has `ring_bytes` bytes, and stays mapped as long as `regions`
    // is borrowed. A granule is made of atomics: any bytes are a value, and sharing it forbids no one to write.
    unsafe { std::slice::from_raw_parts(data, regions.ring_bytes() / GRANULE_BYTES) }
}

/// Implements [`Memory`] for both sides of a memfd, which differ only in what the kernel lets them write.
macro_rules! memory_of_regions {
    ($memory:ty) => {
        impl Memory for $memory {
            type Atomics = Machine;

            #[inline]
            fn geometry(&self) -> Geometry {
                geometry(self.regions())
            }

            #[inline]
            fn producers(&self) -> &ProducersPage<Machine> {
                producers(self.regions())
            }

            #[inline]
            fn consumer(&self) -> &ConsumerPage<Machine> {
                consumer(self.regions())
            }

            #[inline]
            fn stamps(&self) -> Stamps<'_, Machine> {
                Stamps(stamps(self.regions()))
            }

            #[inline]
            fn is_attached(&self) -> &AtomicBool {
                self.regions().is_attached()
            }

            #[inline]
            unsafe fn copy_out(&self, first: usize, words: &mut [u64]) {
                copy_words(data(self.regions()), first, words);
            }

            fn sleep(&self, timeout: Duration) -> io::Result<()> {
                futex::wait(&self.consumer().sleeping, 1, timeout)
            }

            fn wake(&self) -> io::Result<()> {
                futex::wake_one(&self.consumer().sleeping)
            }
        }
    };
}

memory_of_regions!(Memfd);
memory_of_regions!(MemfdReader);

// SAFETY: the regions of a memfd are mapped once, writable, and unmapped when it is dropped. Its seals keep any
// other process from mapping the producers' memfd writable, so that only the consumer's page is in foreign hands. The
// bytes of distinct granules are disjoint and in bounds, as `bytes_within` takes them from a slice of granules.
unsafe impl ProducerMemory for Memfd {
    #[inline]
    fn bytes(&self, first: usize, len: usize) -> NonNull<u8> {
        bytes_within(data(self.regions()), first, len)
    }
}
