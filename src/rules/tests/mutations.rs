//! Rule files with mistakes in them, thousands: nothing panics, nothing hangs, and every error has a place.

use std::path::PathBuf;

use super::{corpus, stock::stock_texts};
use crate::rules::RuleSet;

/// Numbers without a pattern (xorshift64), the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % below.max(1)
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.next(from.len())]
    }
}

const TOKENS: &[&str] = &[
    "and",
    "or",
    "not",
    "not (",
    "(",
    ")",
    ",",
    "=",
    "!=",
    "in",
    "in (",
    "exists",
    "startswith oneof",
    "'",
    "\"",
    "\\",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "&a ",
    "*a",
    "|",
    ">-",
    "#",
    "\n",
    "\n  ",
    "\t",
    "---\n",
    "...\n",
    "~",
    "!!str ",
    "%",
    "- rule: x\n",
    "- macro: ",
    "condition: ",
    "append: true\n",
    "override: {condition: append}",
    "exceptions:\n",
    "opens",
    "shells",
    "\u{fc}",
    "\u{1f985}",
    "\u{feff}",
    "\0",
    "val(",
    "<NA>",
    "18446744073709551616",
    "9999",
];

/// A file with one to four mistakes in it.
fn mutated(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.next(4) {
        let at = random.next(bytes.len());
        let end = (at + random.next(30)).min(bytes.len());
        match random.next(8) {
            0 => bytes[at] = u8::try_from(random.next(256)).unwrap(),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, random.pick(TOKENS).bytes())),
            3 => drop(bytes.splice(at..end, random.pick(TOKENS).bytes())),
            4 => bytes.truncate(at),
            _ => bytes = with_lines_changed(&bytes, random),
        }
        if bytes.is_empty() {
            return String::new();
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn with_lines_changed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let (one, other) = (random.next(lines.len()), random.next(lines.len()));
    match random.next(3) {
        0 => lines.swap(one, other),
        1 => drop(lines.remove(one)),
        _ => lines.insert(one, lines[other]),
    }
    lines.concat()
}

/// A part of a file of whole entries, so that a mistake costs little time.
fn part(text: &str, random: &mut Random) -> String {
    let entries: Vec<&str> = text.split_inclusive("\n\n").collect();
    let start = random.next(entries.len());
    entries[start..(start + 12).min(entries.len())].concat()
}

fn check(texts: Vec<String>) {
    let shown = texts.clone();
    let files =
        texts.into_iter().enumerate().map(|(index, text)| (PathBuf::from(format!("{index}.yaml")), text));
    let rules = RuleSet::parse(files.collect());
    for diagnostic in &rules.diagnostics {
        let text = rules.sources.file(diagnostic.span.file).map(|file| file.text.as_str());
        let (start, end) = (diagnostic.span.start as usize, diagnostic.span.end as usize);
        let is_inside = text.is_some_and(|text| start <= end && text.get(start..end).is_some());
        assert!(is_inside, "{diagnostic:?} is outside of its file: {shown:?}");
        assert!(!diagnostic.message.is_empty());
    }
}

#[test]
fn no_mistake_in_a_rule_file_makes_it_panic_or_hang_or_lose_its_place() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    let mut texts = vec![corpus::WHOLE.to_owned(), corpus::STRANGE.to_owned(), corpus::large()];
    texts.extend(stock_texts());
    for round in 0..10_000 {
        let whole = random.pick(&texts).clone();
        let text = if round % 500 == 0 || whole.len() < 4096 { whole } else { part(&whole, &mut random) };
        let text = mutated(&text, &mut random);
        match random.next(4) {
            0 => check(vec![corpus::WHOLE.to_owned(), text]),
            1 => check(vec![text, corpus::STRANGE.to_owned()]),
            _ => check(vec![text]),
        }
    }
}
