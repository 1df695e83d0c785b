//! What has to hold for a call to matter: conditions on its registers and on the memory that they point to.
//!
//! A [`Formula`] is what is left of a rule's condition after all has been put in that is known of one call. It says
//! when the rule *may* match: what cannot be known before the call has returned has become true in it, never false.
//! There is no negation but in an [`Atom`], so dropping an atom (making it true) can only widen the formula.

use super::{Condition, RegisterTest};

/// When a call may matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Formula {
    /// Never.
    False,
    /// Always, as far as anybody can tell before the call returns.
    True,
    /// When this holds.
    Atom(Atom),
    /// When all of these hold. Made by [`Formula::all`]: at least two, none of them `All` or a constant.
    All(Vec<Self>),
    /// When any of these holds. Made by [`Formula::any`]: at least two, none of them `Any` or a constant.
    Any(Vec<Self>),
}

/// One thing that can be known of a call while its thread stands at the entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Atom {
    /// A register compares. The filter can tell, in the kernel.
    Register(Condition),
    /// A number in the structure that an argument points to compares: the `argument` of the condition is that of the
    /// pointer, and the number starts at this offset, in bytes, and is as wide as the condition says. Triage can tell.
    Word {
        /// Where the number starts.
        offset: u8,
        /// How it compares.
        condition: Condition,
    },
    /// A text that an argument points to passes a test, or fails it. Triage can tell.
    Text(TextAtom),
    /// The socket address that an argument points to passes a test, or fails it. Triage can tell.
    Address {
        /// Index of the argument, 0 to 5.
        argument: u8,
        /// The test.
        test: AddressTest,
        /// Whether it has to fail.
        is_negated: bool,
    },
    /// The name of the program that makes the call, as Falco was told it, passes a test, or fails it. Triage can tell.
    Name {
        /// The test.
        test: TextTest,
        /// Whether it has to fail.
        is_negated: bool,
    },
}

/// A test of a text, which has to pass or to fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextAtom {
    /// Which text.
    pub subject: Subject,
    /// The test.
    pub test: TextTest,
    /// Whether it has to fail.
    pub is_negated: bool,
}

/// A text that an argument points to, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Index of the argument, 0 to 5.
    pub argument: u8,
    /// As what it is read.
    pub form: Form,
    /// Which part of it.
    pub part: Part,
}

/// As what a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the program wrote it.
    Written,
    /// As the absolute path that libsinsp makes of it: put under the directory that it starts from, without `.`, `..`
    /// and doubled slashes. Links are not followed: Falco compares names.
    Resolved,
    /// As either of them, or as the written one behind the directory that it starts from and a slash, since it is not
    /// certain which one libsinsp shows: an atom holds if it does for any of the three.
    Either,
}

/// A part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    Whole,
    /// What libsinsp calls `fd.directory`: all before the last slash, or `/`.
    Directory,
    /// What libsinsp calls `fd.filename`: all after the last slash.
    FileName,
}

/// How a text is tested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextTest {
    /// It is one of these.
    OneOf(Vec<Box<[u8]>>),
    /// It starts with this.
    StartsWith(Box<[u8]>),
    /// It ends with this.
    EndsWith(Box<[u8]>),
    /// It holds this.
    Contains(Box<[u8]>),
    /// It holds this, in capitals or not (ASCII).
    ContainsIgnoringCase(Box<[u8]>),
    /// It matches this pattern as a whole, in which `*` stands for any bytes, `?` for any one byte, and any other byte
    /// for itself (fnmatch(3) without flags; patterns with `[` or `\` are not decided before the call returns).
    Glob(Box<[u8]>),
    /// It is below one of these paths or is one (libsinsp's `pmatch`).
    Below(Vec<Box<[u8]>>),
}

/// `AF_UNSPEC` (linux/socket.h).
pub const AF_UNSPEC: u16 = 0;
/// `AF_UNIX`.
pub const AF_UNIX: u16 = 1;
/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;

/// How a socket address is tested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressTest {
    /// Its family is one of these (`AF_INET` and its kin).
    FamilyIn(Vec<u16>),
    /// Its port, if it is of the internet, is one of these ranges, both ends included.
    PortIn(Vec<(u16, u16)>),
    /// Its host, if it is of the internet, is in one of these networks. IPv4 addresses are mapped into IPv6, with
    /// their prefix 96 bits longer.
    HostIn(Vec<Network>),
}

/// A network: the hosts whose address starts with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// An address in it.
    pub address: u128,
    /// How many leading bits of it count, up to 128.
    pub prefix_len: u8,
}

impl Formula {
    /// The conjunction, simplified: constants go, nested conjunctions are merged, and nothing stands there twice.
    #[must_use]
    pub fn all(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Vec::new();
        for operand in operands {
            match operand {
                Self::True => {}
                Self::False => return Self::False,
                Self::All(inner) => inner.into_iter().for_each(|one| push_new(&mut merged, one)),
                other => push_new(&mut merged, other),
            }
        }
        match merged.len() {
            0 => Self::True,
            1 => merged.swap_remove(0),
            _ => Self::All(merged),
        }
    }

    /// The disjunction, simplified in the same way.
    #[must_use]
    pub fn any(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Vec::new();
        for operand in operands {
            match operand {
                Self::False => {}
                Self::True => return Self::True,
                Self::Any(inner) => inner.into_iter().for_each(|one| push_new(&mut merged, one)),
                other => push_new(&mut merged, other),
            }
        }
        match merged.len() {
            0 => Self::False,
            1 => merged.swap_remove(0),
            _ => Self::Any(merged),
        }
    }

    /// The formula that holds when the registers pass a test.
    #[must_use]
    pub fn of_registers(test: &RegisterTest) -> Self {
        if test.is_always() {
            return Self::True;
        }
        let conjunction = |all: &Vec<Condition>| {
            Self::all(all.iter().map(|condition| Self::Atom(Atom::Register(*condition))))
        };
        Self::any(test.alternatives().iter().map(conjunction))
    }

    /// The formula with `value` in the place of everything that only triage can tell.
    #[must_use]
    pub fn with_memory(&self, value: &Self) -> Self {
        self.replaced(&|atom| match atom {
            Atom::Register(_) => None,
            _ => Some(value.clone()),
        })
    }

    /// When it holds whatever the name of the program is.
    pub(super) fn without_names(&self) -> Self {
        self.replaced(&|atom| matches!(atom, Atom::Name { .. }).then_some(Self::True))
    }

    /// When it holds although no text and no address passes, and no name that has to.
    #[must_use]
    pub fn without_texts(&self) -> Self {
        self.replaced(&|atom| match atom {
            Atom::Name { is_negated: true, .. } => Some(Self::True),
            atom => atom.is_text().then_some(Self::False),
        })
    }

    /// The formula with others in the place of some atoms.
    fn replaced(&self, with: &impl Fn(&Atom) -> Option<Self>) -> Self {
        match self {
            Self::True | Self::False => self.clone(),
            Self::Atom(atom) => with(atom).unwrap_or_else(|| self.clone()),
            Self::All(operands) => Self::all(operands.iter().map(|operand| operand.replaced(with))),
            Self::Any(operands) => Self::any(operands.iter().map(|operand| operand.replaced(with))),
        }
    }
}

impl Atom {
    /// Tells whether it is about a text, an address or a name: what a rule picks calls by.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Address { .. } | Self::Name { .. })
    }
}

fn push_new(into: &mut Vec<Formula>, formula: Formula) {
    if !into.contains(&formula) {
        into.push(formula);
    }
}
