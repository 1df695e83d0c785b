//! Draws that nobody can foresee, many of them for one system call.
#![expect(unsafe_code, reason = "getrandom(2) has no safe wrapper here")]

/// Draws by the kernel's random bytes, of which a supply is kept.
#[derive(Debug)]
pub struct Draws {
    supply: [u32; SUPPLY],
    left: usize,
}

/// Draws of one supply. getrandom(2) is never interrupted up to 256 bytes.
const SUPPLY: usize = 64;

impl Default for Draws {
    fn default() -> Self {
        Self { supply: [0; SUPPLY], left: 0 }
    }
}

impl Draws {
    /// True once in `share` times on average; never for 0. Should the kernel give no random bytes, always.
    pub fn is_drawn(&mut self, share: u32) -> bool {
        if share <= 1 {
            return share == 1;
        }
        if self.left == 0 && !self.fill() {
            return true;
        }
        self.left -= 1;
        // A draw is used once: what is left of the supply tells nothing of those before.
        let draw = self.supply.get_mut(self.left).map_or(0, std::mem::take);
        // The high half of the product is uniform below `share`.
        (u64::from(draw) * u64::from(share)) >> 32 == 0
    }

    fn fill(&mut self) -> bool {
        let bytes = size_of_val(&self.supply);
        // SAFETY: the kernel writes at most `bytes` bytes, the size of `supply`, which we hold mutably.
        let got = unsafe { libc::getrandom(self.supply.as_mut_ptr().cast(), bytes, 0) };
        let is_full = usize::try_from(got) == Ok(bytes);
        self.left = if is_full { SUPPLY } else { 0 };
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrong once in more than a billion runs: the bounds are six standard deviations away.
    #[test]
    fn a_share_of_the_draws_is_drawn() {
        let mut draws = Draws::default();
        let drawn = (0..64_000).filter(|_| draws.is_drawn(64)).count();
        assert!((1_000 - 190..1_000 + 190).contains(&drawn), "{drawn}");
        let drawn = (0..64_000).filter(|_| draws.is_drawn(2)).count();
        assert!((32_000 - 760..32_000 + 760).contains(&drawn), "{drawn}");
    }

    #[test]
    fn all_or_none_can_be_drawn() {
        let mut draws = Draws::default();
        assert!((0..1_000).all(|_| draws.is_drawn(1)));
        assert!(!(0..1_000).any(|_| draws.is_drawn(0)));
    }
}
