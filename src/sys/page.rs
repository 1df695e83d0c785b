//! A page that a process shares with those that it forks.
#![expect(unsafe_code, reason = "a shared mapping has no safe wrapper")]

use std::{
    io,
    ops::Deref,
    ptr::{self, NonNull},
};

/// A value in such a page, which whoever has it may change at any time.
#[derive(Debug)]
pub(super) struct SharedPage<T>(NonNull<T>);

impl<T: Sync> SharedPage<T> {
    /// A page of zeroes.
    ///
    /// # Safety
    /// Zeroes must be a value of `T`, and all its fields be atomics: another process may change them.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(super) unsafe fn map() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing of ours.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(page.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

impl<T> Deref for SharedPage<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the page is mapped until `drop` and aligned as pages are; `map` was told that it holds a value.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for SharedPage<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and its one owner gives it up here.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

// SAFETY: it is a reference to a value that may be shared, from which nothing is moved out.
unsafe impl<T: Sync> Send for SharedPage<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for SharedPage<T> {}
