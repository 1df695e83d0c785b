//! The condition of a rule, as a tree: parsed from a text, and written as one.
//!
//! The tree is what libsinsp's parser makes of the text, without any meaning: names of fields are not looked up, and
//! values are not read. Every part keeps its place in the rule file. The grammar is written down in `parser.rs`.

mod complaint;
mod lexer;
mod parser;
mod print;
#[cfg(test)]
mod tests;

use super::source::{Diagnostic, Located, Span};

/// A condition, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// All of them hold. At least two.
    And(Vec<Self>),
    /// Any of them holds. At least two.
    Or(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// One comparison.
    Check(Check),
    /// What the macro of this name says. An expanded condition has none.
    Macro(Name),
}

/// A name in a condition, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// One comparison: `FIELD OPERATOR VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is compared.
    pub left: Operand,
    /// How.
    pub operator: Operator,
    /// With which of several values.
    pub modifier: Option<Modifier>,
    /// With what.
    pub right: Right,
    /// From the field to the end of the value.
    pub span: Span,
}

/// What a comparison or a transformer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A field of the event.
    Field(Field),
    /// A function of other operands: `toupper(proc.name)`, `join(",", (proc.name, fd.name))`.
    Transformed {
        /// Its name, without the bracket: `toupper`.
        transformer: Transformer,
        /// What it is given.
        arguments: Vec<Self>,
        /// What stands in square brackets behind it.
        index: Option<String>,
    },
    /// A quoted text or a number, as an argument of a transformer.
    Word(Word),
    /// A list, as an argument of a transformer.
    List(Vec<Self>),
}

/// A field: `proc.aname[2]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name: `proc.aname`.
    pub name: String,
    /// What stands in the square brackets, unquoted: `2`.
    pub argument: Option<String>,
    /// Its place.
    pub span: Span,
}

/// Functions of operands (libsinsp's `FieldTransformerType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum Transformer {
    ToLower,
    ToUpper,
    B64,
    Basename,
    Len,
    Join,
    Concat,
    GetOpt,
    /// The field itself, on the right side of a comparison.
    Val,
}

/// Comparisons (libsinsp's operators). `==` is [`Operator::Eq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum Operator {
    Exists,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    IContains,
    BContains,
    StartsWith,
    BStartsWith,
    EndsWith,
    Glob,
    IGlob,
    Regex,
    In,
    Intersects,
    PMatch,
}

/// Which of the values on the right have to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum Modifier {
    OneOf,
    AnyOf,
    AllOf,
}

/// The right side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// Nothing, as of `exists`.
    Nothing,
    /// One value.
    Value(Word),
    /// A list of values. Before expansion any of them may be the name of a list.
    List(Vec<Word>),
    /// The list of this name. An expanded condition has none.
    Named(Name),
    /// Another field, or a function of one.
    Operand(Operand),
}

/// A value as it stands in a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Without its quotes, and with its escapes undone.
    pub text: String,
    /// Whether it stood in quotes: such a word is never the name of a list.
    pub is_quoted: bool,
    /// Its place.
    pub span: Span,
}

/// Parses a condition.
///
/// # Errors
/// The first place that the language does not allow, with what it would.
pub fn parse(condition: &Located) -> Result<Expr, Diagnostic> {
    parser::parse(condition)
}

impl Operator {
    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Contains => "contains",
            Self::IContains => "icontains",
            Self::BContains => "bcontains",
            Self::StartsWith => "startswith",
            Self::BStartsWith => "bstartswith",
            Self::EndsWith => "endswith",
            Self::Glob => "glob",
            Self::IGlob => "iglob",
            Self::Regex => "regex",
            Self::In => "in",
            Self::Intersects => "intersects",
            Self::PMatch => "pmatch",
        }
    }
}

impl Transformer {
    /// How it is written, without the bracket.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToLower => "tolower",
            Self::ToUpper => "toupper",
            Self::B64 => "b64",
            Self::Basename => "basename",
            Self::Len => "len",
            Self::Join => "join",
            Self::Concat => "concat",
            Self::GetOpt => "getopt",
            Self::Val => "val",
        }
    }
}

impl Modifier {
    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneOf => "oneof",
            Self::AnyOf => "anyof",
            Self::AllOf => "allof",
        }
    }
}

impl Expr {
    /// Every comparison in it, from left to right.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        let mut rest = vec![self];
        std::iter::from_fn(move || {
            while let Some(next) = rest.pop() {
                match next {
                    Self::And(operands) | Self::Or(operands) => rest.extend(operands.iter().rev()),
                    Self::Not(operand) => rest.push(operand),
                    Self::Check(check) => return Some(check),
                    Self::Macro(_) => {}
                }
            }
            None
        })
    }
}
