//! The compiler against the emulator: what a program says about a call is what its interest says.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::abi::{self, X32_SYSCALL_BIT};
use crate::interest::SKIPPED;

const NATIVE_ABIS: [Abi; 2] = [Abi::X86_64, Abi::Aarch64];

fn names(abi: Abi) -> Vec<&'static str> {
    (0..600).filter_map(|nr| abi::number_name(abi, SyscallNr(nr))).collect()
}

fn value(program: &Program, call: Call) -> u32 {
    program.verdict(&call).unwrap().value
}

fn is_trapped(program: &Program, nr: SyscallNr, args: [u64; 6]) -> bool {
    program.verdict(&Call::new(program.native(), nr, args)).unwrap().is_trap()
}

fn trace(data: u16) -> u32 {
    libc::SECCOMP_RET_TRACE | u32::from(data)
}

/// Written again, and differently, so that a mistake in the real one shows: in signed 128-bit numbers.
fn holds_again(condition: &Condition, args: &[u64; 6]) -> bool {
    let modulus = match condition.width {
        Width::Low32 => 1_i128 << 32,
        Width::Full64 => 1_i128 << 64,
    };
    let left = i128::from(args[usize::from(condition.argument)]) % modulus;
    let right = i128::from(condition.value) % modulus;
    match condition.test {
        Test::Eq => left - right == 0,
        Test::Ne => left - right != 0,
        Test::Lt => left - right < 0,
        Test::Le => left - right <= 0,
        Test::Gt => left - right > 0,
        Test::Ge => left - right >= 0,
        Test::MaskedEq(mask) => (left ^ right) & (i128::from(mask) % modulus) == 0,
    }
}

/// A model of an interest: names, and for each the alternatives of which one must hold.
type Model = Vec<(&'static str, Vec<Vec<Condition>>)>;

fn contains_again(model: &Model, native: Abi, nr: SyscallNr, args: &[u64; 6]) -> bool {
    model
        .iter()
        .filter(|(name, _)| abi::number(native, name) == Some(nr))
        .any(|(_, any)| any.is_empty() || any.iter().any(|all| all.iter().all(|one| holds_again(one, args))))
}

/// Numbers at which comparisons by halves go wrong, if they do.
fn edge() -> impl Strategy<Value = u64> {
    let half = || prop_oneof![0_u64..4, Just(0x7fff_ffff), Just(0x8000_0000), 0xffff_fffc_u64..=0xffff_ffff];
    prop_oneof![
        4 => (half(), half()).prop_map(|(high, low)| high << 32 | low),
        1 => any::<u64>(),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let test = prop_oneof![
        select(vec![Test::Eq, Test::Ne, Test::Lt, Test::Le, Test::Gt, Test::Ge]),
        edge().prop_map(Test::MaskedEq),
        any::<u64>().prop_map(Test::MaskedEq),
    ];
    (0_u8..6, select(vec![Width::Low32, Width::Full64]), test, edge())
        .prop_map(|(argument, width, test, value)| Condition { argument, width, test, value })
}

fn model(native: Abi) -> impl Strategy<Value = Model> {
    let alternatives = vec(vec(condition(), 1..4), 0..4);
    vec((select(names(native)), alternatives), 0..12)
}

/// A native ABI, a model for it, and where to look: which of the model's calls and conditions to be close to.
fn native_and_model() -> impl Strategy<Value = (Abi, Model)> {
    select(NATIVE_ABIS.to_vec()).prop_flat_map(|native| (Just(native), model(native)))
}

fn interest_of(model: &Model) -> Interest {
    Interest::of_calls(model.iter().map(|(name, any)| (*name, RegisterTest::any_of(any.clone())))).unwrap()
}

/// Moves the registers close to the constants of one of the model's conditions.
fn near(model: &Model, which: usize, delta: u64, args: &mut [u64; 6]) -> Option<&'static str> {
    let (name, any) = model.get(which % model.len().max(1))?;
    for condition in any.get(which % any.len().max(1)).into_iter().flatten() {
        args[usize::from(condition.argument)] = condition.value.wrapping_add(delta).wrapping_sub(2);
    }
    Some(name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_native_call_is_trapped_if_and_only_if_the_interest_contains_it(
        (native, model) in native_and_model(),
        probes in vec((any::<usize>(), 0_u64..5, [edge(), edge(), edge(), edge(), edge(), edge()]), 1..32),
        strangers in vec((0_u32..700, any::<[u64; 6]>()), 0..8),
    ) {
        let interest = interest_of(&model);
        let program = compile(&interest, native, Action::Trace).unwrap();
        let probes = probes.into_iter().filter_map(|(which, delta, mut args)| {
            let name = near(&model, which, delta, &mut args)?;
            Some((abi::number(native, name)?, args))
        });
        for (nr, args) in probes.chain(strangers.into_iter().map(|(nr, args)| (SyscallNr(nr), args))) {
            let contained = contains_again(&model, native, nr, &args);
            prop_assert_eq!(is_trapped(&program, nr, args), contained, "{:?} {:?}\n{:?}", nr, args, program);
            if native == Abi::NATIVE {
                prop_assert_eq!(interest.is_call_wanted(native, nr, &args), contained);
            }
            let expected = if contained { trace(TRACE_DATA_NATIVE) } else { libc::SECCOMP_RET_ALLOW };
            prop_assert_eq!(value(&program, Call::new(native, nr, args)), expected);
        }
    }

    #[test]
    fn a_foreign_call_is_always_trapped_by_its_number_alone(
        (native, model) in native_and_model(),
        nr in prop_oneof![0_u32..600, any::<u32>()],
        arch in prop_oneof![select(Abi::KNOWN.map(Abi::audit_arch).to_vec()), any::<u32>()],
        args in any::<[u64; 6]>(),
    ) {
        let program = compile(&interest_of(&model), native, Action::Trace).unwrap();
        let x32 = SyscallNr(nr | X32_SYSCALL_BIT);
        let mut calls = Vec::new();
        if arch != native.audit_arch() {
            calls.push(Call { nr: SyscallNr(nr), audit_arch: arch, instruction_pointer: 0, args });
        }
        if native == Abi::X86_64 && x32 != SKIPPED {
            calls.push(Call::new(Abi::X32, x32, args));
        }
        for call in calls {
            let verdict = program.verdict(&call).unwrap();
            prop_assert_eq!(verdict.value, trace(TRACE_DATA_FOREIGN));
            prop_assert!(verdict.is_by_number);
        }
    }

    #[test]
    fn a_number_that_is_not_wanted_is_allowed_without_a_look_at_its_arguments(
        (native, model) in native_and_model(),
        args in any::<[u64; 6]>(),
    ) {
        let program = compile(&interest_of(&model), native, Action::Trace).unwrap();
        let wanted: Vec<_> = model.iter().filter_map(|(name, _)| abi::number(native, name)).collect();
        for nr in (0..700).map(SyscallNr).filter(|nr| !wanted.contains(nr)).chain([SKIPPED]) {
            let verdict = program.verdict(&Call::new(native, nr, args)).unwrap();
            prop_assert_eq!(verdict.value, libc::SECCOMP_RET_ALLOW);
            prop_assert!(verdict.is_by_number);
        }
    }
}

#[test]
fn the_built_in_filter_agrees_with_the_built_in_interest_about_every_number() {
    let interest = Interest::built_in();
    let program = compile(&interest, Abi::NATIVE, Action::Trace).unwrap();
    for nr in (0..2048).map(SyscallNr) {
        for args in [[0; 6], [1; 6], [0x4206; 6], [3; 6], [u64::MAX; 6]] {
            assert_eq!(
                is_trapped(&program, nr, args),
                interest.is_call_wanted(Abi::NATIVE, nr, &args),
                "{nr:?} {args:?}"
            );
        }
        if !interest.is_wanted(Abi::NATIVE, nr) {
            assert!(program.verdict(&Call::new(Abi::NATIVE, nr, [0; 6])).unwrap().is_by_number);
        }
    }
}

#[test]
fn the_built_in_filter_stays_short() {
    for native in NATIVE_ABIS {
        let program = compile(&Interest::built_in(), native, Action::Trace).unwrap();
        let unwanted = abi::number(native, "close").unwrap();
        let steps = program.verdict(&Call::new(native, unwanted, [0; 6])).unwrap().steps;
        let length = program.instructions().len();
        println!("{}: {length} instructions, {steps} executed for an unwanted call", native.name());
        assert!(length <= 400 && steps <= 150, "{}: {length} instructions, {steps} steps", native.name());
    }
}

#[test]
fn all_traps_every_call_but_a_skipped_one() {
    for native in NATIVE_ABIS {
        let program = compile(&Interest::all(), native, Action::Trace).unwrap();
        for nr in [0, 1, 59, 1000, 0x3fff_ffff] {
            let call = Call::new(native, SyscallNr(nr), [0; 6]);
            assert_eq!(value(&program, call), trace(TRACE_DATA_NATIVE));
        }
        for abi in Abi::KNOWN.into_iter().filter(|abi| abi.audit_arch() != native.audit_arch()) {
            assert_eq!(value(&program, Call::new(abi, SyscallNr(1), [0; 6])), trace(TRACE_DATA_FOREIGN));
        }
        assert_eq!(value(&program, Call::new(native, SKIPPED, [0; 6])), libc::SECCOMP_RET_ALLOW);
    }
}

#[test]
fn an_interest_in_nothing_allows_every_native_call() {
    let nothing = Interest::of_names::<&str>(&[]).unwrap();
    for native in NATIVE_ABIS {
        let program = compile(&nothing, native, Action::Trace).unwrap();
        assert!((0..600).all(|nr| !is_trapped(&program, SyscallNr(nr), [0; 6])));
    }
}

#[test]
fn a_notifying_filter_traps_the_same_calls_with_the_other_action() {
    for native in NATIVE_ABIS {
        let traced = compile(&Interest::built_in(), native, Action::Trace).unwrap();
        let notified = compile(&Interest::built_in(), native, Action::Notify).unwrap();
        for nr in (0..600).map(SyscallNr) {
            for abi in [native, Abi::I386] {
                let call = Call::new(abi, nr, [0, 1, 0, 0, 1, 0]);
                let expected = match value(&traced, call) {
                    libc::SECCOMP_RET_ALLOW => libc::SECCOMP_RET_ALLOW,
                    _ => libc::SECCOMP_RET_USER_NOTIF,
                };
                assert_eq!(value(&notified, call), expected);
            }
        }
    }
}

#[test]
fn a_long_conjunction_is_compiled_with_jumps_that_reach() {
    let all: Vec<_> = (0..200)
        .map(|value| Condition { argument: 2, width: Width::Full64, test: Test::Ne, value })
        .collect();
    let interest =
        Interest::of_calls([("openat", RegisterTest::any_of(vec![all])), ("close", RegisterTest::ALWAYS)])
            .unwrap();
    for native in NATIVE_ABIS {
        let program = compile(&interest, native, Action::Trace).unwrap();
        let nr = |name| abi::number(native, name).unwrap();
        for value in [0, 1, 77, 199] {
            assert!(!is_trapped(&program, nr("openat"), [9, 9, value, 9, 9, 9]));
        }
        assert!(is_trapped(&program, nr("openat"), [9, 9, 200, 9, 9, 9]));
        assert!(is_trapped(&program, nr("close"), [0; 6]));
        assert!(!is_trapped(&program, nr("read"), [0; 6]));
    }
}

#[test]
fn an_abi_that_creance_does_not_run_on_is_refused() {
    for abi in [Abi::I386, Abi::X32, Abi::Other] {
        let error = compile(&Interest::built_in(), abi, Action::Trace).unwrap_err();
        assert_eq!(error, CompileError::NotNative { abi });
    }
}

#[test]
fn a_condition_on_an_argument_that_no_call_has_is_refused() {
    let seventh = Condition { argument: 6, width: Width::Low32, test: Test::Eq, value: 0 };
    let interest = Interest::of_calls([("openat", RegisterTest::any_of(vec![vec![seventh]]))]).unwrap();
    let error = compile(&interest, Abi::Aarch64, Action::Trace).unwrap_err();
    let nr = abi::number(Abi::Aarch64, "openat").unwrap();
    assert_eq!(error, CompileError::Argument { nr, argument: 6 });
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_refused_and_one_at_the_bound_is_not() {
    let of_length = |alternatives: u64| {
        let any = (0..alternatives)
            .map(|value| vec![Condition { argument: 0, width: Width::Low32, test: Test::Eq, value }])
            .collect();
        let interest = Interest::of_calls([("openat", RegisterTest::any_of(any))]).unwrap();
        compile(&interest, Abi::X86_64, Action::Trace)
    };
    let one = of_length(1).unwrap().instructions().len();
    let each = of_length(2).unwrap().instructions().len() - one;
    let fit = u64::try_from((limits::FILTER_INSTRUCTIONS_MAX - one) / each + 1).unwrap();
    assert!(of_length(fit).unwrap().instructions().len() <= limits::FILTER_INSTRUCTIONS_MAX);
    for over in [fit + 1, fit + 2, 2 * fit] {
        let CompileError::TooLong { instructions } = of_length(over).unwrap_err() else {
            panic!("refused for another reason");
        };
        assert!(instructions > limits::FILTER_INSTRUCTIONS_MAX - each);
    }
}

#[test]
fn the_listing_names_calls_and_architectures() {
    let interest = Interest::of_calls([(
        "dup3",
        RegisterTest::any_of(vec![vec![Condition {
            argument: 1,
            width: Width::Low32,
            test: Test::Le,
            value: 2,
        }]]),
    )])
    .unwrap();
    let program = compile(&interest, Abi::X86_64, Action::Trace).unwrap();
    let expected = "   0  load arch
   1  if == 0xc000003e (x86_64) then 3 else 2
   2  return trace 0xce02
   3  load nr
   4  if == 0xffffffff then 5 else 6
   5  return allow
   6  if & 0x40000000 then 7 else 8
   7  return trace 0xce02
   8  load arch
   9  if == 0xc000003e (x86_64) then 11 else 10
  10  return kill process
  11  load nr
  12  if == 0x124 (dup3) then 13 else 14
  13  jump to 15
  14  jump to 19
  15  load argument 1, low half
  16  if > 0x2 then 18 else 17
  17  return trace 0xce01
  18  return allow
  19  return allow
";
    assert_eq!(program.to_string(), expected);
    assert!(format!("{program:?}").starts_with("Program for x86_64:\n   0  load arch\n"));
}
