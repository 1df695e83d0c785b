//! What becomes of the privileges of set-user-ID programs in the workload.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use creance::sys::probe::Probe;

use crate::support::{CREANCE, Workload, creance, directory, fixture, has_program, is_permitted, skip};

/// Runs a set-user-ID program as a user who is nobody, under creance and these flags if there are any, with all capabilities
/// or only some; tells which user it had become.
struct Escalation {
    program: std::path::PathBuf,
    _held: tempfile::TempDir,
}

impl Escalation {
    /// `None` where such a program has no effect even natively.
    fn prepare() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !has_program("setpriv") {
            skip("root and setpriv are needed");
            return None;
        }
        let (held, path) = directory();
        let program = path.join("whoami");
        fs::copy(fixture("effective"), &program).expect("it can be copied");
        for (path, mode) in [(&*path, 0o755), (&*program, 0o4755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        let this = Self { program, _held: held };
        if Workload::new(this.words(&[], &[], true)).natively().stdout() != "0\n" {
            skip("set-user-ID programs have no effect here");
            return None;
        }
        Some(this)
    }

    /// `with` are capabilities that are kept as root; `is_dropped` drops to a plain user before creance, else behind it.
    fn words(&self, creance: &[&str], without: &[&str], is_dropped: bool) -> Vec<String> {
        let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(String::from);
        let mut words = Vec::new();
        if !without.is_empty() {
            let list = without.iter().map(|name| format!("-{name}")).collect::<Vec<_>>().join(",");
            words.extend(["setpriv".into(), format!("--bounding-set={list}"), format!("--inh-caps={list}")]);
        }
        if is_dropped {
            words.extend(drop.clone());
        }
        if !creance.is_empty() {
            words.push(CREANCE.into());
            words.extend(["run", "--output", "null"].map(String::from));
            words.extend(creance.iter().map(|&word| word.to_owned()));
            words.push("--".into());
        }
        if !is_dropped {
            words.extend(drop);
            // setpriv still has CAP_SETUID when it starts a program, and with that the kernel demotes nobody.
            words.push("env".into());
        }
        words.push(self.program.to_str().expect("it is text").to_owned());
        words
    }

    fn user(&self, creance: &[&str], without: &[&str], is_dropped: bool) -> String {
        let done = Workload::new(self.words(creance, without, is_dropped)).natively();
        assert!(done.status.success(), "{}", done.stderr);
        done.stdout().trim().to_owned()
    }
}

const WITHOUT_FILTER: [&str; 3] = ["--engine", "ptrace", "--no-filter"];

#[test]
fn without_a_filter_a_set_user_id_program_keeps_its_effect_if_creance_may_trace_anybody() {
    let Some(escalation) = Escalation::prepare() else { return };
    let with_filter = &WITHOUT_FILTER[..2];
    // In a container root has neither by default.
    let kept = |is_kept| if is_kept { "0" } else { "65534" };
    let may_trace = is_permitted(Probe::CapSysPtrace);
    // As on Fargate with the capability that it can add.
    let without = ["sys_admin"];
    assert_eq!(escalation.user(with_filter, &without, false), "65534", "no_new_privs had to be set");
    assert_eq!(escalation.user(&WITHOUT_FILTER, &without, false), kept(may_trace));
    // All that creance has: then the filter needs no no_new_privs.
    assert_eq!(escalation.user(with_filter, &[], false), kept(may_trace && is_permitted(Probe::CapSysAdmin)));
    assert_eq!(escalation.user(&WITHOUT_FILTER, &[], false), kept(may_trace));
}

#[test]
fn a_plain_users_set_user_id_program_is_demoted_by_the_kernel_whether_there_is_a_filter_or_not() {
    let Some(escalation) = Escalation::prepare() else { return };
    if !is_reachable(Path::new(CREANCE)) {
        return skip("a plain user cannot run the program under test");
    }
    for flags in [&WITHOUT_FILTER[..], &WITHOUT_FILTER[..2]] {
        assert_eq!(escalation.user(flags, &[], true), "65534", "{flags:?}");
    }
}

/// Whether every directory on the way may be passed by anybody.
fn is_reachable(path: &Path) -> bool {
    path.ancestors().skip(1).all(|directory| {
        fs::metadata(directory).is_ok_and(|directory| directory.permissions().mode() & 1 != 0)
    })
}

#[test]
fn without_a_filter_each_call_is_seen_and_programs_do_the_same() {
    let script = "cd /; ls -d etc /nonexistent; x=$(cat /proc/self/comm); echo $x; (exec true); /nonexistent/x; echo $?";
    let native = Workload::shell(script).natively();
    for flags in [&["--no-filter", "--engine", "ptrace"][..], &["--no-filter", "--all"]] {
        let capture = Workload::shell(script).flags(flags).capture();
        assert_eq!(capture.finished.stdout(), native.stdout());
        assert_eq!(capture.code(), native.status.code().unwrap());
        assert!(
            capture.finished.stderr.contains("every call of the workload stops"),
            "{}",
            capture.finished.stderr
        );
        let starts = capture.of("execve").filter(|exec| exec.result() == Some(0)).count();
        assert!(starts >= 4, "{starts}");
        capture.started(&["sh", "-c", script]);
        capture.started(&["cat", "/proc/self/comm"]);
        capture.check_parents();
    }
    let told = |flags: &[&str]| {
        let capture = Workload::new(["cat", "/etc/passwd"])
            .flags(["--syscalls", "openat,close"])
            .flags(flags)
            .capture();
        capture.events.iter().map(|event| event.kind().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&["--engine", "ptrace", "--no-filter"]), told(&["--engine", "ptrace"]));
}

#[test]
fn without_a_filter_there_are_no_notifications() {
    let refused = creance(["run", "--engine", "notify", "--no-filter", "--", "true"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("it is the filter that tells it of calls"), "{}", refused.stderr);
}
