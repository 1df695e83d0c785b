//! From rules to an interest, and what each rule has a share in.
//!
//! For every call that has a name, every rule is evaluated as far as the name decides it; what is left is the rule's
//! share in that call. A call in which some rule has a share is trapped, when its registers pass ([`registers`]), and
//! kept, when the whole of what is left holds (triage).
//!
//! [`registers`]: super::registers

use std::collections::{BTreeMap, BTreeSet};

use super::{Condition, Interest, RegisterTest, Test, Width, facts, formula::Formula, partial, registers};
use crate::{
    abi::{self, Abi, SyscallNr},
    limits::SYSCALL_NUMBERS_MAX,
    rules::{
        Diagnostic, ExpandedRule, Expr, Severity,
        condition::{Operand, Right},
    },
};

/// The calls that start a program.
const EXEC_CALLS: [&str; 2] = ["execve", "execveat"];

/// Calls that make or end a thread. They are told without being trapped: the kernel reports them to a tracer.
const LIFE_CALLS: [&str; 6] = ["clone", "clone3", "fork", "vfork", "exit", "exit_group"];

/// Events that come from no call.
const OTHER_EVENTS: [&str; 5] = ["procexit", "drop", "asyncevent", "container", "signaldeliver"];

/// No call has this name: a rule that may match such a call asks for every call.
const NO_CALL: &str = "no call";

/// What rules make of the system calls.
#[derive(Debug, Clone)]
pub struct Funnel {
    /// What is trapped.
    pub interest: Interest,
    /// The calls that are trapped, by name.
    pub calls: Vec<CallFunnel>,
    /// What a user should know about the rules: those that can never match, those that cost much.
    pub warnings: Vec<Diagnostic>,
}

/// What rules make of one call.
#[derive(Debug, Clone)]
pub struct CallFunnel {
    /// Its name.
    pub name: &'static str,
    /// What the filter looks at.
    pub registers: RegisterTest,
    /// What triage looks at: when any rule may match.
    pub formula: Formula,
    /// The rules that may match, and when each of them may.
    pub rules: Vec<RuleShare>,
    /// What Falco shows of a process that would be wrong without the call, whatever the rules say about it.
    pub state: Option<&'static str>,
}

/// One rule's share in what is made of a call.
#[derive(Debug, Clone)]
pub struct RuleShare {
    /// Its index in the rules.
    pub rule: usize,
    /// When it may match.
    pub formula: Formula,
}

/// One rule, as far as names of calls decide it.
struct Asked<'a> {
    index: usize,
    rule: &'a ExpandedRule,
    /// When it may match a call that it does not name and that nothing is known of.
    of_any_call: Formula,
    /// The calls that it names, if that is how it picks them.
    named: Option<BTreeSet<&'a str>>,
}

impl<'a> Asked<'a> {
    fn new(index: usize, rule: &'a ExpandedRule) -> Self {
        let of_any_call = partial::may_match(&rule.condition, NO_CALL);
        Self { index, rule, of_any_call, named: partial::named_calls(&rule.condition) }
    }

    /// Whether it asks for every call.
    fn is_about_all(&self) -> bool {
        self.of_any_call != Formula::False
    }

    fn may_match(&self, call: &str, is_ordinary: bool) -> Formula {
        match &self.named {
            Some(named) if is_ordinary && !named.contains(call) => self.of_any_call.clone(),
            _ => partial::may_match(&self.rule.condition, call),
        }
    }
}

impl Funnel {
    /// What these rules make of the system calls. Disabled rules, and those of other sources, have no share.
    ///
    /// A rule that asks for every call, since it names none, cannot have them all: it gets every call that starts a
    /// program, and of the calls that other rules ask for those that its paths and addresses pick, besides all that is
    /// kept anyway.
    #[must_use]
    pub fn of_rules(rules: &[ExpandedRule]) -> Self {
        let asked: Vec<_> = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.looks_at_calls())
            .map(|(index, rule)| Asked::new(index, rule))
            .collect();
        let mut calls: BTreeMap<&str, CallFunnel> = BTreeMap::new();
        for name in call_names() {
            let shares = shares(&asked, name);
            if !shares.is_empty() {
                calls.insert(name, CallFunnel::new(name, shares));
            }
        }
        let needed: Vec<_> = state_calls(&asked, &calls).collect();
        for (state, name) in
            needed.iter().flat_map(|state| state.calls.iter().map(move |name| (state, *name)))
        {
            calls.entry(name).or_insert_with(|| CallFunnel::new(name, Vec::new())).need_for_state(state);
        }
        let calls: Vec<_> = calls.into_values().collect();
        Self { interest: Interest::of_funnel(&calls), warnings: warnings(&asked, &calls), calls }
    }
}

impl CallFunnel {
    fn new(name: &'static str, rules: Vec<RuleShare>) -> Self {
        let formula = Formula::any(rules.iter().map(|share| share.formula.clone()));
        // Without a rule the test is of no account: only state makes such a call wanted.
        let registers = registers::register_test(&formula).unwrap_or_default();
        Self { name, registers, formula, rules, state: None }
    }

    fn need_for_state(&mut self, state: &StateCalls) {
        let test = RegisterTest::any_of(vec![state.when.into_iter().collect()]);
        self.state = Some(state.shown);
        let needed = Formula::of_registers(&test);
        if self.rules.is_empty() {
            self.registers = test;
        } else {
            self.registers.widen(&test);
        }
        self.formula = Formula::any([self.formula.clone(), needed]);
    }
}

/// The names that a native ABI has a call of, but for those that need no trap.
fn call_names() -> BTreeSet<&'static str> {
    let names = |abi| (0..SYSCALL_NUMBERS_MAX).filter_map(move |nr| abi::number_name(abi, SyscallNr(nr)));
    let natives = [Abi::X86_64, Abi::Aarch64].into_iter().flat_map(names);
    natives.filter(|name| !LIFE_CALLS.contains(name)).collect()
}

/// The rules that have a share in the call of this name, and their shares.
fn shares(asked: &[Asked<'_>], name: &str) -> Vec<RuleShare> {
    let mut shares = Vec::new();
    let is_ordinary = facts::is_ordinary(name);
    let mut is_wanted = EXEC_CALLS.contains(&name);
    for rule in asked {
        let formula = rule.may_match(name, is_ordinary);
        // A name picks too much to be asked for in calls that name nothing else.
        let is_picky = formula.without_names().with_memory(&Formula::False) == Formula::False;
        let has_share = !rule.is_about_all() || is_picky || EXEC_CALLS.contains(&name);
        if registers::register_test(&formula).is_some() && has_share {
            is_wanted |= !rule.is_about_all();
            shares.push(RuleShare { rule: rule.index, formula });
        }
    }
    if is_wanted { shares } else { Vec::new() }
}

/// Calls that change what Falco knows of a process.
struct StateCalls {
    calls: &'static [&'static str],
    /// What makes such a call do so.
    when: Option<Condition>,
    /// How the fields start that show it.
    fields: &'static [&'static str],
    /// What they show, in words.
    shown: &'static str,
}

/// All of them. At the start of a program all of it is told anyway, so only rules about other calls need them.
const STATE_CALLS: &[StateCalls] = &[
    StateCalls {
        calls: &["chdir", "fchdir"],
        when: None,
        fields: &["proc.cwd", "proc.acwd"],
        shown: "the working directory (proc.cwd)",
    },
    StateCalls {
        calls: &["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid"],
        when: None,
        fields: &["user.", "group.", "proc.euid", "proc.egid", "thread.e"],
        shown: "the user and the group of a process (user.*, group.*)",
    },
    StateCalls {
        calls: &["setsid"],
        when: None,
        fields: &["proc.sid", "proc.sname", "proc.is_sid_leader", "proc.tty"],
        shown: "the session (proc.sid, proc.tty)",
    },
    StateCalls {
        calls: &["capset"],
        when: None,
        fields: &["thread.cap_"],
        shown: "the capabilities of a thread (thread.cap_*)",
    },
    StateCalls {
        calls: &["chroot"],
        when: None,
        fields: &["container."],
        shown: "which container a process is in (container.*)",
    },
    StateCalls {
        calls: &["prctl"],
        when: Some(IS_SUBREAPER),
        fields: &["proc.p", "proc.a"],
        shown: "who becomes the parent of an orphan (proc.p*, proc.a*)",
    },
];

/// `PR_SET_CHILD_SUBREAPER` (prctl(2)): the one of its options that changes who is whose parent.
const IS_SUBREAPER: Condition = Condition { argument: 0, width: Width::Low32, test: Test::Eq, value: 36 };

/// The calls that Falco's picture of a process needs for the conditions and the output lines of these rules.
fn state_calls(
    asked: &[Asked<'_>],
    calls: &BTreeMap<&str, CallFunnel>,
) -> impl Iterator<Item = &'static StateCalls> {
    let is_beyond_exec = |index: usize| {
        let beyond = calls.values().filter(|call| !EXEC_CALLS.contains(&call.name));
        beyond.flat_map(|call| &call.rules).any(|share| share.rule == index)
    };
    let beyond: Vec<_> =
        asked.iter().filter(|asked| is_beyond_exec(asked.index)).map(|asked| asked.rule).collect();
    STATE_CALLS.iter().filter(move |state| beyond.iter().any(|rule| names_field(rule, state.fields)))
}

/// Tells whether a rule names a field that starts with one of these, in its condition or its output.
fn names_field(rule: &ExpandedRule, starts: &[&str]) -> bool {
    let is_one = |name: &str| starts.iter().any(|start| name.starts_with(start));
    rule.output.split('%').skip(1).any(is_one)
        || rule.condition.checks().any(|check| {
            let is_on_right = matches!(&check.right, Right::Operand(right) if operand_names(right, &is_one));
            is_on_right || operand_names(&check.left, &is_one)
        })
}

fn operand_names(operand: &Operand, is_one: &impl Fn(&str) -> bool) -> bool {
    match operand {
        Operand::Field(field) => is_one(&field.name),
        Operand::Transformed { arguments, .. } | Operand::List(arguments) => {
            arguments.iter().any(|argument| operand_names(argument, is_one))
        }
        Operand::Word(_) => false,
    }
}

fn warnings(asked: &[Asked<'_>], calls: &[CallFunnel]) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for asked in asked {
        let rule = asked.rule;
        let shares = calls.iter().filter_map(|call| {
            call.rules.iter().find(|share| share.rule == asked.index).map(|share| (call.name, &share.formula))
        });
        let shares: Vec<_> = shares.collect();
        let mut warn = |message: String, help: &str| {
            warnings.push(Diagnostic {
                severity: Severity::Warning,
                message: format!("rule {:?} {message}", rule.name),
                span: rule.span,
                help: Some(help.to_owned()),
            });
        };
        if asked.is_about_all() {
            warn(
                "names no evt.type, so Falco evaluates it at every call; creance gives it program starts, and the calls that are captured for other rules".into(),
                "name the calls that it is about, for example: evt.type in (execve, execveat) and ...",
            );
        } else if shares.is_empty() && !is_about_life(&rule.condition) {
            warn(
                "can never match: there is no call whose event makes its condition true".into(),
                "remove the rule, or see which of its comparisons exclude each other: creance rules expand",
            );
        }
        let opens = ["open", "openat", "openat2"];
        let kept = shares
            .iter()
            .filter(|(name, formula)| opens.contains(name) && formula.without_texts() != Formula::False);
        let kept: Vec<_> = kept.map(|(name, _)| *name).collect();
        if !kept.is_empty() {
            warn(
                format!(
                    "looks at no path of {}, so each of them that its flags allow costs two stops and a record",
                    kept.join(", ")
                ),
                "compare fd.name, fd.directory or fd.filename with what the rule is about, outside of any `or` with other fields",
            );
        }
    }
    warnings
}

/// Tells whether a rule may match an event that needs no trap.
fn is_about_life(condition: &Expr) -> bool {
    LIFE_CALLS.iter().chain(&OTHER_EVENTS).any(|name| partial::may_match(condition, name) != Formula::False)
}
