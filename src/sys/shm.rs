//! The memory of a ring as two sealed memfds, made on one side and mapped on the other.
//!
//! ```text
//! ring memfd      header page | producers' page | stamps, 8 bytes per 64 of data | data     read-only for readers
//! control memfd   the consumer's page                                                       writable for both
//! ```
//! Two files, because a file's permissions are the same for all of its pages: whoever may map the control page writable
//! may then map all of the file so, and the producers' memory would be read-only by courtesy. `F_SEAL_FUTURE_WRITE`
//! (fcntl(2): since Linux 5.1) on the ring memfd leaves our own mapping writable and denies every later one, also
//! through `/proc/PID/fd`. Both files are sealed against growing, shrinking and other seals, so that no access can end
//! in SIGBUS.
//!
//! It must never write into the regions or read what they hold: it knows where they are, not what they mean.

#![expect(unsafe_code, reason = "a mapping is a range of addresses")]

use crate::limits::RING_BYTES_MAX;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;
use thiserror::Error;

/// The unit of the layout. Regions are placed by it and not by the machine's page size, which may be larger: each file
/// is mapped whole.
pub const PAGE_BYTES: usize = 4096;

/// Bytes of the control memfd.
pub const CONTROL_BYTES: usize = PAGE_BYTES;

/// Version of the layout. It changes with the layout of the pages and with the protocol of the ring.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"creance\0";
const HEADER_BYTES: usize = 32;
const STAMPS_OFFSET: usize = 2 * PAGE_BYTES;
/// Data bytes for each byte of stamps.
const DATA_PER_STAMP_BYTE: usize = 8;

const _: () = assert!(RING_BYTES_MAX.is_multiple_of(PAGE_BYTES));

/// Why a ring's memory could not be made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The size is no power of two in bounds.
    #[error(
        "a ring of {ring_bytes} bytes: the size must be a power of two from {PAGE_BYTES} to {RING_BYTES_MAX}"
    )]
    Size {
        /// The size asked for.
        ring_bytes: usize,
    },
    /// The kernel refuses a step.
    #[error("{step} for a ring of {ring_bytes} bytes")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The size asked for.
        ring_bytes: usize,
        /// Its answer.
        source: io::Error,
    },
}

/// Why a ring's memory could not be mapped for reading.
#[derive(Debug, Error)]
pub enum MapReaderError {
    /// The kernel refuses a step.
    #[error("{step}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The file could be made shorter under our feet.
    #[error("the {file} file is not sealed against growing and shrinking (seals {seals:#x})")]
    Unsealed {
        /// `ring` or `control`.
        file: &'static str,
        /// The seals found (fcntl(2), `F_GET_SEALS`).
        seals: i32,
    },
    /// The file does not begin as a ring does.
    #[error("not the memory of a ring: it begins with {found:02x?}")]
    Foreign {
        /// Its first eight bytes.
        found: [u8; 8],
    },
    /// The ring was made by another version of creance.
    #[error("ring memory of version {found}, and this build reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Sizes contradict each other or are out of bounds.
    #[error("the {file} file has {file_bytes} bytes, which no ring of {ring_bytes} bytes has")]
    Size {
        /// `ring` or `control`.
        file: &'static str,
        /// Its length.
        file_bytes: u64,
        /// The size of the ring, by the header.
        ring_bytes: u64,
    },
}

/// The regions of a mapped ring.
#[derive(Debug)]
pub struct Regions {
    ring: Mapping,
    control: Mapping,
    ring_bytes: usize,
    /// Kept, since every access to the ring needs it.
    data_offset: usize,
    is_attached: AtomicBool,
}

impl Regions {
    fn map(
        ring: BorrowedFd<'_>,
        control: BorrowedFd<'_>,
        ring_bytes: usize,
        ring_protection: ProtFlags,
    ) -> io::Result<Self> {
        Ok(Self {
            ring: Mapping::new(ring, file_bytes(ring_bytes), ring_protection)?,
            control: Mapping::new(control, CONTROL_BYTES, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?,
            ring_bytes,
            data_offset: data_offset(ring_bytes),
            is_attached: AtomicBool::new(false),
        })
    }

    /// Bytes of data: a power of two from [`PAGE_BYTES`] to [`RING_BYTES_MAX`].
    #[inline]
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// The producers' page.
    #[inline]
    #[must_use]
    pub fn producers(&self) -> NonNull<u8> {
        self.ring.at(PAGE_BYTES)
    }

    /// The stamps: eight bytes for each 64 of data.
    #[inline]
    #[must_use]
    pub fn stamps(&self) -> NonNull<u8> {
        self.ring.at(STAMPS_OFFSET)
    }

    /// The data.
    #[inline]
    #[must_use]
    pub fn data(&self) -> NonNull<u8> {
        self.ring.at(self.data_offset)
    }

    /// The consumer's page.
    #[inline]
    #[must_use]
    pub fn control(&self) -> NonNull<u8> {
        self.control.at(0)
    }

    /// Set while this process reads the ring through this mapping.
    pub(crate) fn is_attached(&self) -> &AtomicBool {
        &self.is_attached
    }
}

/// A ring's memory as its producers hold it: both files, mapped writable.
#[derive(Debug)]
pub struct Memfd {
    regions: Regions,
    ring: OwnedFd,
    control: OwnedFd,
}

impl Memfd {
    /// Makes and maps the memory of a ring of `ring_bytes` bytes, a power of two from [`PAGE_BYTES`] to
    /// [`RING_BYTES_MAX`]. The ring begins at position 0.
    ///
    /// Pages take up memory when they are first written, so that only a ring that fills up costs its full size.
    ///
    /// # Errors
    /// [`CreateError`]: a size out of bounds, or the step that the kernel refused.
    pub fn create(ring_bytes: usize) -> Result<Self, CreateError> {
        if !is_ring_bytes(ring_bytes) {
            return Err(CreateError::Size { ring_bytes });
        }
        let kernel = |step| move |source| CreateError::Kernel { step, ring_bytes, source };
        let ring = create_file("creance-ring", file_bytes(ring_bytes)).map_err(kernel("memfd_create"))?;
        let control = create_file("creance-control", CONTROL_BYTES).map_err(kernel("memfd_create"))?;
        ring.write_all_at(&header(ring_bytes), 0).map_err(kernel("writing the header"))?;
        let regions = map_writer(&ring, &control, ring_bytes).map_err(kernel("mmap"))?;
        // Only once we are mapped: the seal denies writable mappings from here on, ours too.
        let fixed = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        seal(&ring, fixed | SealFlag::F_SEAL_FUTURE_WRITE).map_err(kernel("sealing"))?;
        seal(&control, fixed).map_err(kernel("sealing"))?;
        Ok(Self { regions, ring: ring.into(), control: control.into() })
    }

    /// The file to hand to the one consumer, which can map it for reading only. No consumer of this process may be
    /// attached to the ring at the same time.
    #[must_use]
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// The file to hand to the one consumer, which may write it.
    #[must_use]
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Where the regions are.
    #[inline]
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }
}

/// A ring's memory as its consumer holds it: all read-only but the consumer's page.
#[derive(Debug)]
pub struct MemfdReader {
    regions: Regions,
}

impl MemfdReader {
    /// Maps the two files of a ring, which may come from anyone: their seals, header and lengths are checked first.
    ///
    /// The descriptors may be closed afterwards.
    ///
    /// # Errors
    /// [`MapReaderError`]: what is wrong with the files, or the step that the kernel refused.
    pub fn map_reader(ring: OwnedFd, control: OwnedFd) -> Result<Self, MapReaderError> {
        let kernel = |step| move |source| MapReaderError::Kernel { step, source };
        let ring = File::from(ring);
        let control = File::from(control);
        // Seals first: what is read afterwards of a sealed file's length stays true.
        check_seals("ring", &ring)?;
        check_seals("control", &control)?;
        let mut header = [0; HEADER_BYTES];
        ring.read_exact_at(&mut header, 0).map_err(kernel("reading the header"))?;
        let ring_bytes = ring_bytes_of(&header)?;
        check_length("ring", &ring, file_bytes(ring_bytes), ring_bytes)?;
        check_length("control", &control, CONTROL_BYTES, ring_bytes)?;
        let regions = Regions::map(ring.as_fd(), control.as_fd(), ring_bytes, ProtFlags::PROT_READ)
            .map_err(kernel("mmap"))?;
        Ok(Self { regions })
    }

    /// Where the regions are.
    #[inline]
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }
}

fn is_ring_bytes(ring_bytes: usize) -> bool {
    ring_bytes.is_power_of_two() && (PAGE_BYTES..=RING_BYTES_MAX).contains(&ring_bytes)
}

fn data_offset(ring_bytes: usize) -> usize {
    STAMPS_OFFSET + (ring_bytes / DATA_PER_STAMP_BYTE).next_multiple_of(PAGE_BYTES)
}

fn file_bytes(ring_bytes: usize) -> usize {
    data_offset(ring_bytes) + ring_bytes
}

/// Magic, version, size of the header, size of the data, and zeros.
fn header(ring_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let fields = MAGIC.into_iter().chain(VERSION.to_ne_bytes()).chain(32_u32.to_ne_bytes());
    for (into, byte) in header.iter_mut().zip(fields.chain((ring_bytes as u64).to_ne_bytes())) {
        *into = byte;
    }
    header
}

fn ring_bytes_of(header: &[u8; HEADER_BYTES]) -> Result<usize, MapReaderError> {
    let [magic, version, ring_bytes, _] = bytemuck::cast::<[u8; HEADER_BYTES], [[u8; 8]; 4]>(*header);
    if magic != MAGIC {
        return Err(MapReaderError::Foreign { found: magic });
    }
    let [version, _header_bytes] = bytemuck::cast::<[u8; 8], [u32; 2]>(version);
    if version != VERSION {
        return Err(MapReaderError::Version { found: version });
    }
    let ring_bytes = u64::from_ne_bytes(ring_bytes);
    usize::try_from(ring_bytes).ok().filter(|bytes| is_ring_bytes(*bytes)).ok_or(MapReaderError::Size {
        file: "ring",
        file_bytes: 0,
        ring_bytes,
    })
}

fn check_seals(file: &'static str, fd: &File) -> Result<(), MapReaderError> {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS)
        .map_err(|errno| MapReaderError::Kernel { step: "reading the seals", source: errno.into() })?;
    let fixed = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    if SealFlag::from_bits_retain(seals).contains(fixed) {
        Ok(())
    } else {
        Err(MapReaderError::Unsealed { file, seals })
    }
}

fn check_length(
    file: &'static str,
    fd: &File,
    expected_bytes: usize,
    ring_bytes: usize,
) -> Result<(), MapReaderError> {
    let metadata =
        fd.metadata().map_err(|source| MapReaderError::Kernel { step: "reading the length", source })?;
    let file_bytes = metadata.len();
    if file_bytes == expected_bytes as u64 {
        Ok(())
    } else {
        Err(MapReaderError::Size { file, file_bytes, ring_bytes: ring_bytes as u64 })
    }
}

fn create_file(name: &str, bytes: usize) -> io::Result<File> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let file = File::from(fd);
    file.set_len(bytes as u64)?;
    Ok(file)
}

fn seal(file: &File, seals: SealFlag) -> io::Result<()> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

fn map_writer(ring: &File, control: &File, ring_bytes: usize) -> io::Result<Regions> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    Regions::map(ring.as_fd(), control.as_fd(), ring_bytes, protection)
}

/// Part of our address space that shows a file, until it is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process and not to the thread that made it, and `Mapping` itself never looks
// at what is in it.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`: a shared `Mapping` only tells addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, bytes: usize, protection: ProtFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).expect("every file of a ring has a page at least");
        // SAFETY: the kernel chooses an address where nothing is mapped, so no memory of ours changes.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { start: start.cast(), bytes })
    }

    #[inline]
    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.bytes, "{offset} is not within {}", self.bytes);
        // SAFETY: the layout puts every offset within the file (`file_bytes`), all of which is mapped here.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is one that `mmap` has given us, and whoever was told an address within it has borrowed
        // this mapping, so that no one uses it any more.
        let result = unsafe { munmap(self.start.cast(), self.bytes) };
        debug_assert!(result.is_ok(), "unmapping a range of ours cannot fail: {result:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(memfd: &Memfd) -> (OwnedFd, OwnedFd) {
        let ring = memfd.ring_fd().try_clone_to_owned().unwrap();
        (ring, memfd.control_fd().try_clone_to_owned().unwrap())
    }

    /// A file as `Memfd::create` makes it, with this header, and sealed against changes of its length.
    fn forged(header: &[u8], bytes: usize) -> OwnedFd {
        let file = create_file("forged", bytes).unwrap();
        file.write_all_at(header, 0).unwrap();
        seal(&file, SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK).unwrap();
        file.into()
    }

    fn refusal(ring: OwnedFd, control: OwnedFd) -> MapReaderError {
        MemfdReader::map_reader(ring, control).expect_err("the files should have been refused")
    }

    #[test]
    fn a_reader_finds_the_size_and_the_data_of_the_writer() {
        let memfd = Memfd::create(8192).unwrap();
        let (ring, control) = files(&memfd);
        let reader = MemfdReader::map_reader(ring, control).unwrap();
        assert_eq!(reader.regions().ring_bytes(), 8192);
        let written = memfd.regions().data();
        // SAFETY: the first of 8192 bytes of a writable mapping that nothing else uses.
        unsafe { written.write_volatile(7) };
        let read = reader.regions().data();
        // SAFETY: the same byte of the file in a mapping that may be read.
        assert_eq!(unsafe { read.read_volatile() }, 7);
    }

    #[test]
    fn no_one_else_can_map_the_ring_writable_or_write_it() {
        let memfd = Memfd::create(PAGE_BYTES).unwrap();
        let write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let denied = Mapping::new(memfd.ring_fd(), PAGE_BYTES, write).unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
        let (ring, _) = files(&memfd);
        let denied = File::from(ring).write_all_at(b"x", 0).unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn no_one_can_change_the_length_of_either_file() {
        let memfd = Memfd::create(PAGE_BYTES).unwrap();
        let (ring, control) = files(&memfd);
        for file in [File::from(ring), File::from(control)] {
            assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
            assert_eq!(file.set_len(1 << 20).unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
    }

    #[test]
    fn sizes_that_are_no_power_of_two_in_bounds_are_refused() {
        for bytes in [0, 64, 2048, 5000, RING_BYTES_MAX * 2] {
            assert!(matches!(Memfd::create(bytes), Err(CreateError::Size { .. })), "{bytes}");
        }
    }

    #[test]
    fn a_reader_refuses_what_is_no_ring() {
        let memfd = Memfd::create(PAGE_BYTES).unwrap();
        let (ring, control) = files(&memfd);
        let good = header(PAGE_BYTES);
        let bytes = file_bytes(PAGE_BYTES);
        let with = |at: usize, byte: u8| {
            let mut bad = good;
            bad[at] = byte;
            forged(&bad, bytes)
        };
        let control = || control.try_clone().unwrap();
        assert!(matches!(refusal(with(0, b'X'), control()), MapReaderError::Foreign { .. }));
        assert!(matches!(refusal(with(8, 2), control()), MapReaderError::Version { found: 2 }));
        assert!(matches!(refusal(with(16, 1), control()), MapReaderError::Size { .. }));
        assert!(matches!(refusal(with(17, 32), control()), MapReaderError::Size { .. }));
        assert!(matches!(refusal(with(23, 255), control()), MapReaderError::Size { .. }));
        let short = forged(&good, bytes - PAGE_BYTES);
        assert!(matches!(refusal(short, control()), MapReaderError::Size { file: "ring", .. }));
        let unsealed: OwnedFd = create_file("unsealed", bytes).unwrap().into();
        assert!(matches!(refusal(unsealed, control()), MapReaderError::Unsealed { file: "ring", .. }));
        let unsealed: OwnedFd = create_file("unsealed", CONTROL_BYTES).unwrap().into();
        assert!(matches!(refusal(ring, unsealed), MapReaderError::Unsealed { file: "control", .. }));
    }
}
