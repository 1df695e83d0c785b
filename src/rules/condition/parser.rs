//! The grammar of a condition, by recursive descent.
//!
//! It takes what libsinsp takes (`filter/parser.cpp` of 0.25, read it before you edit) and refuses what it refuses, with
//! one exception: brackets inside each other are bounded here. Nothing is looked up: whether a field or a macro exists
//! is not asked. No place is parsed twice, so that the time is linear in the length of the text.
//!
//! ```text
//! or         = and { "or" ( blank and | "(" or ")" ) }
//! and        = not { "and" ( blank not | "(" or ")" ) }
//! not        = { "not" space } ( "not(" or ")" | check )
//! check      = "(" or ")" | ( field | function ) comparison | macro
//! comparison = "exists" | NUMERIC ( function | val | number ) | TEXTUAL ( function | val | word )
//!            | TEXTUAL blank MODIFIER blank ( list | name ) | SET ( list | function | val | name )
//! field      = name "." name { "." name } [ "[" ( quoted | bare ) "]" ]
//! function   = NAME "(" argument { "," argument } ")" [ "[" ( quoted | bare ) "]" ]
//! argument   = number | quoted | "(" [ element { "," element } ] ")" | function | field
//! element    = field | function | quoted | number
//! val        = "val(" field ")" [ "[" ( quoted | bare ) "]" ]
//! list       = "(" [ word { "," word } ] ")"
//! ```
//!
//! Three things surprise: what stands behind `or(` is no part of its operand, so that `a or(b) and c` is refused where
//! `a or (b) and c` is not; keywords and most operators end where they end, so that `fd.name existsand proc.name ina`
//! says something; and a list whose first value has a wrong escape in it, and that ends there, is an empty list.

use super::{
    Check, Expr, Field, Modifier, Name, Operand, Operator, Right, Transformer, Word,
    complaint::Behind,
    lexer::{Cursor, QuoteError},
};
use crate::{
    limits::{BRACKETS_DEPTH_MAX, CONDITION_BYTES_MAX},
    rules::source::{Diagnostic, Located, Span},
};

/// What an operator takes on its right side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    Numeric,
    /// A text, or a modifier and a list.
    Textual,
    /// The same, and there has to be a blank behind the operator.
    Word,
    Set,
}

/// The operators, in the order in which they are tried.
pub(super) const OPERATORS: [(&str, Operator, Kind); 20] = [
    ("exists", Operator::Exists, Kind::Unary),
    ("<=", Operator::Le, Kind::Numeric),
    ("<", Operator::Lt, Kind::Numeric),
    (">=", Operator::Ge, Kind::Numeric),
    (">", Operator::Gt, Kind::Numeric),
    ("==", Operator::Eq, Kind::Textual),
    ("=", Operator::Eq, Kind::Textual),
    ("!=", Operator::Ne, Kind::Textual),
    ("glob", Operator::Glob, Kind::Word),
    ("iglob", Operator::IGlob, Kind::Word),
    ("contains", Operator::Contains, Kind::Word),
    ("icontains", Operator::IContains, Kind::Word),
    ("bcontains", Operator::BContains, Kind::Word),
    ("startswith", Operator::StartsWith, Kind::Word),
    ("bstartswith", Operator::BStartsWith, Kind::Word),
    ("endswith", Operator::EndsWith, Kind::Word),
    ("regex", Operator::Regex, Kind::Word),
    ("intersects", Operator::Intersects, Kind::Set),
    ("in", Operator::In, Kind::Set),
    ("pmatch", Operator::PMatch, Kind::Set),
];

/// The functions of the left side and of arguments.
pub(super) const FUNCTIONS: [Transformer; 8] = [
    Transformer::ToLower,
    Transformer::ToUpper,
    Transformer::B64,
    Transformer::Basename,
    Transformer::Len,
    Transformer::Join,
    Transformer::Concat,
    Transformer::GetOpt,
];

const MODIFIERS: [Modifier; 3] = [Modifier::OneOf, Modifier::AnyOf, Modifier::AllOf];

/// Takes the whole text.
pub(super) fn parse(condition: &Located) -> Result<Expr, Diagnostic> {
    let mut parser =
        Parser { cursor: Cursor::new(&condition.text), source: condition, depth: 0, behind: Behind::Other };
    if condition.text.len() > CONDITION_BYTES_MAX {
        return Err(parser.too_long());
    }
    let expr = parser.or()?;
    if parser.cursor.is_at_end() { Ok(expr) } else { Err(parser.not_at_end(None)) }
}

/// The text and how far it is understood.
pub(super) struct Parser<'c> {
    pub(super) cursor: Cursor<'c>,
    pub(super) source: &'c Located,
    /// How many brackets are open.
    depth: usize,
    /// What was taken last, for a complaint about what comes next.
    pub(super) behind: Behind<'c>,
}

/// One operand as it is, or several under an operator.
fn joined(mut operands: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match (operands.pop(), operands.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            operands.extend(last);
            join(operands)
        }
    }
}

impl<'c> Parser<'c> {
    /// The stretch of the file from `start` to where the cursor stands.
    fn span_from(&self, start: usize) -> Span {
        self.source.span(start, self.cursor.at)
    }

    fn or(&mut self) -> Result<Expr, Diagnostic> {
        let mut operands = vec![self.and()?];
        loop {
            let start = self.cursor.at;
            if !self.cursor.eat("or") {
                return Ok(joined(operands, Expr::Or));
            }
            operands.push(if self.cursor.blank() { self.and()? } else { self.tight("or", start)? });
            self.cursor.blank();
        }
    }

    fn and(&mut self) -> Result<Expr, Diagnostic> {
        let mut operands = vec![self.not()?];
        loop {
            self.cursor.blank();
            let start = self.cursor.at;
            if !self.cursor.eat("and") {
                return Ok(joined(operands, Expr::And));
            }
            operands.push(if self.cursor.blank() { self.not()? } else { self.tight("and", start)? });
        }
    }

    /// An operand in brackets behind a keyword without a blank.
    fn tight(&mut self, keyword: &'static str, start: usize) -> Result<Expr, Diagnostic> {
        let open = self.cursor.at;
        if !self.cursor.eat("(") {
            return Err(self.no_blank_behind(keyword, start));
        }
        let operand = self.bracketed(open)?;
        self.behind = Behind::Tight(keyword);
        Ok(operand)
    }

    fn not(&mut self) -> Result<Expr, Diagnostic> {
        let mut is_negated = false;
        self.cursor.blank();
        while self.cursor.negation() {
            is_negated = !is_negated;
        }
        let operand = if self.cursor.eat("not(") {
            is_negated = !is_negated;
            self.bracketed(self.cursor.at - 1)?
        } else {
            self.check()?
        };
        Ok(if is_negated { Expr::Not(Box::new(operand)) } else { operand })
    }

    /// What stands in brackets, of which the first is taken and stood at `open`.
    fn bracketed(&mut self, open: usize) -> Result<Expr, Diagnostic> {
        self.enter(open)?;
        let expr = self.or()?;
        self.cursor.blank();
        if !self.cursor.eat(")") {
            return Err(self.not_at_end(Some(open)));
        }
        self.depth -= 1;
        self.behind = Behind::Other;
        Ok(expr)
    }

    /// Counts a bracket.
    fn enter(&mut self, open: usize) -> Result<(), Diagnostic> {
        if self.depth >= BRACKETS_DEPTH_MAX {
            return Err(self.too_deep(open));
        }
        self.depth += 1;
        Ok(())
    }

    fn check(&mut self) -> Result<Expr, Diagnostic> {
        self.cursor.blank();
        let start = self.cursor.at;
        if self.cursor.eat("(") {
            return self.bracketed(start);
        }
        if let Some(field) = self.field()? {
            return self.comparison(Operand::Field(field), start);
        }
        if let Some(function) = self.function()? {
            return self.comparison(function, start);
        }
        let Some(name) = self.cursor.identifier() else { return Err(self.no_operand()) };
        self.behind = Behind::Macro { name, start };
        Ok(Expr::Macro(Name { text: name.to_owned(), span: self.span_from(start) }))
    }

    fn field(&mut self) -> Result<Option<Field>, Diagnostic> {
        let start = self.cursor.at;
        let Some(name) = self.cursor.field_name() else { return Ok(None) };
        let argument = self.bracket_argument(name)?;
        Ok(Some(Field { name: name.to_owned(), argument, span: self.span_from(start) }))
    }

    /// What stands in square brackets, if there are any.
    fn bracket_argument(&mut self, of: &str) -> Result<Option<String>, Diagnostic> {
        let open = self.cursor.at;
        if !self.cursor.eat("[") {
            return Ok(None);
        }
        let argument = match self.quoted()? {
            Some(quoted) => quoted,
            None => self.cursor.bare_argument().ok_or_else(|| self.no_argument(of, open))?.to_owned(),
        };
        if !self.cursor.eat("]") {
            return Err(self.argument_not_closed(of, open));
        }
        Ok(Some(argument))
    }

    fn quoted(&mut self) -> Result<Option<String>, Diagnostic> {
        self.cursor.quoted().map_err(|error| self.bad_quoted(error))
    }

    fn function(&mut self) -> Result<Option<Operand>, Diagnostic> {
        let name_length = |name: &str| {
            let rest = self.cursor.rest().strip_prefix(name)?;
            rest.starts_with('(').then_some(name.len())
        };
        let found = FUNCTIONS.iter().find_map(|one| Some((*one, name_length(one.name())?)));
        let Some((transformer, length)) = found else { return Ok(None) };
        let open = self.cursor.at + length;
        self.cursor.at = open + 1;
        self.enter(open)?;
        let mut arguments = Vec::new();
        loop {
            self.cursor.blank();
            arguments.push(self.argument(transformer)?);
            self.cursor.blank();
            if !self.cursor.eat(",") {
                break;
            }
        }
        if !self.cursor.eat(")") {
            return Err(self.arguments_not_closed(transformer, open));
        }
        self.depth -= 1;
        let index = self.bracket_argument(transformer.name())?;
        Ok(Some(Operand::Transformed { transformer, arguments, index }))
    }

    fn argument(&mut self, of: Transformer) -> Result<Operand, Diagnostic> {
        let open = self.cursor.at;
        if self.cursor.eat("(") {
            return self.argument_list(of, open);
        }
        self.element()?.ok_or_else(|| self.no_function_argument(of))
    }

    /// An argument that is a list, behind its first bracket.
    fn argument_list(&mut self, of: Transformer, open: usize) -> Result<Operand, Diagnostic> {
        let mut elements = Vec::new();
        self.cursor.blank();
        if self.cursor.eat(")") {
            return Ok(Operand::List(elements));
        }
        loop {
            self.cursor.blank();
            elements.push(self.element()?.ok_or_else(|| self.no_element(of))?);
            self.cursor.blank();
            if !self.cursor.eat(",") {
                break;
            }
        }
        if !self.cursor.eat(")") {
            return Err(self.list_not_closed(open));
        }
        Ok(Operand::List(elements))
    }

    /// A number, a quoted text, a function or a field. No two of them start alike, so that the order is free.
    fn element(&mut self) -> Result<Option<Operand>, Diagnostic> {
        let start = self.cursor.at;
        if let Some(word) = self.number() {
            return Ok(Some(Operand::Word(word)));
        }
        if let Some(text) = self.quoted()? {
            return Ok(Some(Operand::Word(Word { text, is_quoted: true, span: self.span_from(start) })));
        }
        if let Some(function) = self.function()? {
            return Ok(Some(function));
        }
        Ok(self.field()?.map(Operand::Field))
    }

    fn number(&mut self) -> Option<Word> {
        let start = self.cursor.at;
        let text = self.cursor.number()?.to_owned();
        Some(Word { text, is_quoted: false, span: self.span_from(start) })
    }

    /// What is done with the left side, which started at `start`.
    fn comparison(&mut self, left: Operand, start: usize) -> Result<Expr, Diagnostic> {
        let left_end = self.cursor.at;
        self.cursor.blank();
        let Some((operator, kind)) = self.operator() else { return Err(self.no_operator(start, left_end)) };
        self.behind = Behind::Other;
        let mut modifier = None;
        let right = match kind {
            Kind::Unary => Right::Nothing,
            Kind::Numeric => self.numeric(operator)?,
            Kind::Textual | Kind::Word => {
                let has_blank = self.cursor.blank() || kind == Kind::Word;
                modifier = if has_blank { self.modifier() } else { None };
                match modifier {
                    Some(modifier) => self.list_or_name(modifier.name())?,
                    None => self.textual(operator)?,
                }
            }
            Kind::Set => self.set(operator)?,
        };
        Ok(Expr::Check(Check { left, operator, modifier, right, span: self.span_from(start) }))
    }

    fn operator(&mut self) -> Option<(Operator, Kind)> {
        let before = self.cursor;
        for (name, operator, kind) in OPERATORS {
            if self.cursor.eat(name) && (kind != Kind::Word || self.cursor.blank()) {
                return Some((operator, kind));
            }
            self.cursor = before;
        }
        None
    }

    /// A modifier. It is none, but a value, unless a list or the name of one follows.
    fn modifier(&mut self) -> Option<Modifier> {
        let before = self.cursor;
        for modifier in MODIFIERS {
            if self.cursor.eat(modifier.name()) && self.cursor.blank() && self.is_before_list() {
                return Some(modifier);
            }
            self.cursor = before;
        }
        None
    }

    fn is_before_list(&self) -> bool {
        let rest = self.cursor.rest();
        let is_keyword = |keyword: &str| {
            let behind = rest.strip_prefix(keyword);
            behind.is_some_and(|behind| !behind.starts_with(|c: char| c.is_ascii_alphanumeric()))
        };
        rest.starts_with('(')
            || rest.starts_with(|c: char| c.is_ascii_alphabetic())
                && !["and", "or", "not"].into_iter().any(is_keyword)
    }

    fn numeric(&mut self, operator: Operator) -> Result<Right, Diagnostic> {
        self.cursor.blank();
        if let Some(operand) = self.function_or_val()? {
            return Ok(Right::Operand(operand));
        }
        self.behind = Behind::Number;
        self.number().map(Right::Value).ok_or_else(|| self.no_number(operator))
    }

    fn textual(&mut self, operator: Operator) -> Result<Right, Diagnostic> {
        self.cursor.blank();
        if let Some(operand) = self.function_or_val()? {
            return Ok(Right::Operand(operand));
        }
        let start = self.cursor.at;
        match self.word() {
            Ok(Some(word)) => {
                self.behind = if word.is_quoted { Behind::Quoted } else { Behind::Bare { start } };
                Ok(Right::Value(word))
            }
            Ok(None) => Err(self.no_value(operator)),
            Err(error) => Err(self.bad_quoted(error)),
        }
    }

    fn set(&mut self, operator: Operator) -> Result<Right, Diagnostic> {
        self.cursor.blank();
        if let Some(operand) = self.function_or_val()? {
            return Ok(Right::Operand(operand));
        }
        self.list_or_name(operator.name())
    }

    fn list_or_name(&mut self, of: &'static str) -> Result<Right, Diagnostic> {
        self.cursor.blank();
        let start = self.cursor.at;
        if self.cursor.eat("(") {
            return self.list(start).map(Right::List);
        }
        let Some(name) = self.cursor.identifier() else { return Err(self.no_list(of)) };
        self.behind = Behind::ListName { name, start };
        Ok(Right::Named(Name { text: name.to_owned(), span: self.span_from(start) }))
    }

    /// A list of values, behind its first bracket.
    fn list(&mut self, open: usize) -> Result<Vec<Word>, Diagnostic> {
        let mut words = Vec::new();
        let mut escape = None;
        self.cursor.blank();
        match self.word() {
            Ok(Some(word)) => {
                words.push(word);
                self.cursor.blank();
                while self.cursor.eat(",") {
                    self.cursor.blank();
                    let word = self.word().map_err(|error| self.bad_quoted(error))?;
                    words.push(word.ok_or_else(|| self.no_list_value())?);
                    self.cursor.blank();
                }
            }
            Ok(None) => {}
            // libsinsp drops the error here, and then takes the list for an empty one.
            Err(error @ QuoteError::Escape { .. }) => escape = Some(error),
            Err(error) => return Err(self.bad_quoted(error)),
        }
        if self.cursor.eat(")") {
            return Ok(words);
        }
        Err(match escape {
            Some(error) => self.bad_quoted(error),
            None if words.is_empty() => self.no_list_value(),
            None => self.list_not_closed(open),
        })
    }

    fn word(&mut self) -> Result<Option<Word>, QuoteError> {
        let start = self.cursor.at;
        let (text, is_quoted) = match self.cursor.quoted()? {
            Some(text) => (text, true),
            None => match self.cursor.bare_word() {
                Some(text) => (text.to_owned(), false),
                None => return Ok(None),
            },
        };
        Ok(Some(Word { text, is_quoted, span: self.span_from(start) }))
    }

    fn function_or_val(&mut self) -> Result<Option<Operand>, Diagnostic> {
        let open = self.cursor.at + Transformer::Val.name().len();
        if !self.cursor.eat("val(") {
            return self.function();
        }
        self.cursor.blank();
        let field = self.field()?.ok_or_else(|| self.no_field_in_val())?;
        self.cursor.blank();
        if !self.cursor.eat(")") {
            return Err(self.arguments_not_closed(Transformer::Val, open));
        }
        let index = self.bracket_argument(Transformer::Val.name())?;
        let arguments = vec![Operand::Field(field)];
        Ok(Some(Operand::Transformed { transformer: Transformer::Val, arguments, index }))
    }
}
