//! A condition as text: what is written here is parsed back to the same tree, wherever the tree came from a text.
//!
//! Brackets and quotes stand only where they must. A word that stood in quotes keeps them, since it may be the name of a
//! list without them.

use std::fmt::{self, Display, Formatter, Write};

use super::{
    Check, Expr, Field, Modifier, Operand, Operator, Right, Word,
    lexer::{is_bare_argument_word, is_bare_word, is_number},
};

/// What an operand stands in, for whether it needs brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    Or,
    And,
    Not,
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        expr(self, Around::Nothing, f)
    }
}

fn expr(one: &Expr, around: Around, f: &mut Formatter<'_>) -> fmt::Result {
    let needs_brackets = match one {
        Expr::Or(_) => around != Around::Nothing,
        Expr::And(_) => matches!(around, Around::And | Around::Not),
        // Two in a row would go away.
        Expr::Not(_) => around == Around::Not,
        Expr::Check(_) => false,
        // With a blank behind it, it would be the operator.
        Expr::Macro(name) => name.text == "not",
    };
    if needs_brackets {
        f.write_char('(')?;
    }
    match one {
        Expr::Or(operands) => joined(operands, " or ", Around::Or, f)?,
        Expr::And(operands) => joined(operands, " and ", Around::And, f)?,
        Expr::Not(operand) => {
            f.write_str("not ")?;
            expr(operand, Around::Not, f)?;
        }
        Expr::Check(check) => check.fmt(f)?,
        Expr::Macro(name) => f.write_str(&name.text)?,
    }
    if needs_brackets { f.write_char(')') } else { Ok(()) }
}

fn joined(operands: &[Expr], between: &str, around: Around, f: &mut Formatter<'_>) -> fmt::Result {
    for (position, operand) in operands.iter().enumerate() {
        if position > 0 {
            f.write_str(between)?;
        }
        expr(operand, around, f)?;
    }
    Ok(())
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.left, self.operator)?;
        if let Some(modifier) = self.modifier {
            write!(f, " {modifier}")?;
        }
        match &self.right {
            Right::Nothing => Ok(()),
            Right::Value(word) => write!(f, " {word}"),
            Right::List(words) => {
                f.write_str(" ")?;
                in_brackets(words, f)
            }
            Right::Named(name) => write!(f, " {}", name.text),
            // A field alone would be a value.
            Right::Operand(field @ Operand::Field(_)) => write!(f, " val({field})"),
            Right::Operand(operand) => write!(f, " {operand}"),
        }
    }
}

fn in_brackets<T: Display>(items: &[T], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('(')?;
    between_commas(items, f)?;
    f.write_char(')')
}

fn between_commas<T: Display>(items: &[T], f: &mut Formatter<'_>) -> fmt::Result {
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => field.fmt(f),
            Self::Transformed { transformer, arguments, index } => {
                f.write_str(transformer.name())?;
                in_brackets(arguments, f)?;
                bracket_argument(index.as_deref(), f)
            }
            // Among arguments only a number goes without quotes.
            Self::Word(word) if !word.is_quoted && is_number(&word.text) => f.write_str(&word.text),
            Self::Word(word) => quoted(&word.text, f),
            Self::List(operands) => in_brackets(operands, f),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        bracket_argument(self.argument.as_deref(), f)
    }
}

fn bracket_argument(argument: Option<&str>, f: &mut Formatter<'_>) -> fmt::Result {
    let Some(argument) = argument else { return Ok(()) };
    f.write_char('[')?;
    if is_bare_argument_word(argument) {
        f.write_str(argument)?;
    } else {
        quoted(argument, f)?;
    }
    f.write_char(']')
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.is_quoted && is_bare_word(&self.text) {
            f.write_str(&self.text)
        } else {
            quoted(&self.text, f)
        }
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Display for Modifier {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Writes a text in quotes.
fn quoted(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let quote = if text.contains('"') && !text.contains('\'') { '\'' } else { '"' };
    f.write_char(quote)?;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            // A quote right behind an escaped backslash would not close the text. With a blank there is none.
            '\\' if chars.peek().is_none() => f.write_str("\\ ")?,
            '\\' => f.write_str("\\\\")?,
            c if c == quote => write!(f, "\\{c}")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}
