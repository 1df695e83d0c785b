//! Both engines tell the same of the same workload.
//!
//! Each engine runs it once, and what it tells is brought into a form in which only what a reader could miss is left. Of a
//! process that is: what its first thread did, in order, with each child where it was made; then what each other thread
//! did, whatever the order of the threads. Left out is what differs from run to run (ids, times, names made at random) and
//! what docs/architecture.md lists as an engine's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use creance::sys::probe::Probe;
use serde_json::{Map, Value};

use crate::support::{Capture, Event, Workload, directory, has_program, is_permitted, skip};

/// What of a workload is the same each time that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steady {
    /// Everything.
    All,
    /// All but the descriptors, which threads of one process take in any order.
    AllButDescriptors,
    /// What each program does, but neither how often nor in which order.
    Acts,
}

/// Runs a bash script under both engines and compares what they tell. It starts in a directory of its own.
#[track_caller]
fn compare(name: &str, programs: &[&str], steady: Steady, script: &str) {
    if let Some(missing) = programs.iter().find(|program| !has_program(program)) {
        return skip(&format!("there is no {missing}"));
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("engines");
    fs::create_dir_all(&place).expect("a directory for what is told can be made");
    let [ptrace, notify] = ["ptrace", "notify"].map(|engine| {
        let lines = told(engine, steady, script)?;
        fs::write(place.join(format!("{name}.{engine}")), lines.join("\n"))
            .expect("what is told can be written");
        Some(lines)
    });
    let (Some(ptrace), Some(notify)) = (ptrace, notify) else { return };
    assert!(ptrace.len() > 20, "{ptrace:#?}");
    let are_ends_told = tells_ends();
    let is_same = |one: &str, other: &str| {
        // How the first process ended is always known.
        let may_be_untold = !are_ends_told && !other.starts_with('{');
        one == other || may_be_untold && untold(one).as_deref() == Some(other)
    };
    let mut lines = ptrace.iter().zip(&notify).enumerate();
    let differing = lines.find(|(_, (one, other))| !is_same(one, other));
    let is_same = differing.is_none() && ptrace.len() == notify.len();
    assert!(is_same, "compare {}/{name}.{{ptrace,notify}}: {differing:#?}", place.display());
}

/// What an engine tells of a script; `None` if the engine is impossible.
fn told(engine: &str, steady: Steady, script: &str) -> Option<Vec<String>> {
    let (_held, path) = directory();
    // Also for what a server becomes.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let workload = Workload::new(["bash", "-euc", script]).directory(&path);
    let workload = workload.variable("HOME", &path).variable("TMPDIR", &path).variable("LC_ALL", "C");
    let capture = workload.flags(["--engine", engine]).capture();
    if capture.is_impossible() {
        return None;
    }
    assert_eq!(capture.code(), 0, "{engine}: {}", capture.finished.stderr);
    let plain = Plain::of(&capture, steady, path.to_str()?);
    if steady != Steady::Acts {
        return Some(plain.process(capture.root()));
    }
    let acts = plain.acts().into_iter();
    // Which of them are the ends of the same processes nobody can say.
    let blur = |act: String| if tells_ends() { act } else { untold(&act).unwrap_or(act) };
    Some(acts.map(blur).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Whether the kernel tells how a process ended that is not ours to wait for, also after somebody has waited: else the notify
/// engine may not know.
fn tells_ends() -> bool {
    is_permitted(Probe::PidfdExitInfo)
}

/// The line of the end of a process if it were not known how that ended; `None` of any other.
fn untold(line: &str) -> Option<String> {
    let (indent, event) = line.split_at(line.find('{')?);
    let mut event: Map<String, Value> = serde_json::from_str(event).ok()?;
    if event.get("type") != Some(&"procexit".into()) {
        return None;
    }
    event.insert("args".into(), Map::new().into());
    event.insert("flags".into(), vec!["no_result"].into());
    Some(format!("{indent}{}", Value::Object(event)))
}

/// What a thread did: the text, and the process that it made by that.
type Act = (String, Option<i64>);

/// The acts of each thread of each process.
struct Plain(BTreeMap<i64, BTreeMap<i64, Vec<Act>>>);

impl Plain {
    fn of(capture: &Capture, steady: Steady, directory: &str) -> Self {
        let mut processes = BTreeMap::<_, BTreeMap<_, Vec<_>>>::new();
        for event in &capture.events {
            // Threads are told of in ways of their own.
            if event.is_clone() && event.has_flag("thread") || event.kind() == "threadexit" {
                continue;
            }
            // How long a program waits for its peer is its own affair.
            let is_waiting = ["EAGAIN", "ECONNREFUSED"].map(Some).contains(&event.errno());
            if steady == Steady::Acts && is_waiting {
                continue;
            }
            let (tid, pid) = event.thread();
            let child = event.is_clone().then(|| event.result()).flatten();
            let acts = processes.entry(pid).or_default().entry(tid).or_default();
            acts.push((text(event, steady, directory), child));
        }
        Self(processes)
    }

    fn process(&self, pid: i64) -> Vec<String> {
        let Some(threads) = self.0.get(&pid) else { return Vec::new() };
        let thread = |acts: &Vec<Act>| {
            acts.iter()
                .flat_map(|(text, child)| {
                    let children = child.map(|child| self.process(child)).unwrap_or_default();
                    [text.clone()].into_iter().chain(children.into_iter().map(|line| format!("  {line}")))
                })
                .collect::<Vec<_>>()
        };
        let first = threads.get(&pid).map(thread).unwrap_or_default();
        let mut others: Vec<_> =
            threads.iter().filter(|&(&tid, _)| tid != pid).map(|(_, acts)| thread(acts)).collect();
        others.sort();
        let others = others.concat().into_iter().map(|line| format!("| {line}"));
        first.into_iter().chain(others).collect()
    }

    fn acts(&self) -> Vec<String> {
        let acts = self.0.values().flat_map(BTreeMap::values).flatten();
        acts.map(|(text, _)| text.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// An event without what differs from run to run.
fn text(event: &Event, steady: Steady, directory: &str) -> String {
    let mut told = event.value("").and_then(Value::as_object).expect("an event is an object").clone();
    for name in ["seq", "producer", "time_ns", "enter_ns", "duration_ns", "tid", "pid"] {
        told.remove(name);
    }
    if event.is_clone() || steady != Steady::All && event.result() >= Some(0) {
        told.remove("res");
    }
    if event.is_open() && event.argument("flags").is_some_and(|flags| !flags.contains("O_CREAT")) {
        // Whatever the register holds.
        told.get_mut("args").and_then(Value::as_object_mut).and_then(|arguments| arguments.remove("mode"));
    }
    blur(&mut told, steady);
    let text = Value::Object(told).to_string().replace(directory, "DIR");
    ["/proc/", "/cc", "tmp_obj_", ".git/t", "xlogtemp.", "PostgreSQL.", "pg_internal.init.", "127.0.0.1:"]
        .iter()
        .fold(text, |text, prefix| blur_after(&text, prefix))
}

/// Takes the values of ids, ports that the kernel chose, and addresses out.
fn blur(members: &mut Map<String, Value>, steady: Steady) {
    members.retain(|name, value| {
        let is_descriptor =
            ["fd", "dirfd", "oldfd", "newfd", "olddirfd", "newdirfd", "sockfd"].contains(&&**name);
        // `hdrp` is what capset(2) is told of a thread.
        let is_id = name.ends_with("pid") || name == "hdrp";
        let is_chosen = name == "port" && value.as_u64() >= Some(32768);
        let is_address = value.as_u64() > Some(u64::from(u32::MAX));
        !(is_id || is_chosen || is_address || is_descriptor && steady != Steady::All)
    });
    members.values_mut().filter_map(Value::as_object_mut).for_each(|inner| blur(inner, steady));
}

/// Takes out what follows a prefix if it looks like an id or six random characters.
fn blur_after(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(part.len());
        let (word, rest) = part.split_at(end);
        let is_random = word.len() == 6 || !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        format!("{text}{prefix}{}{rest}", if is_random { "*" } else { word })
    })
}

#[test]
fn they_tell_the_same_of_pipes_and_subshells() {
    let script = r#"
        printf 'b\na\n' | sort | cat >sorted
        for i in 1 2 3; do
            (cd /; echo "$i" >"$HOME/$i"; cat /etc/hostname) | tr a b >>all
            word=$(echo "$i" | cat; cat </nonexistent 2>&1) || true
            ln -s "$i" "link$i"; chmod u+s "$i"; mv "$i" "$i.old"; rm "link$i"
        done
        (exec sh -c 'kill -9 $$') || (exit 4) || bash -c '(sleep 0.01; : >late) & exit 5' || :
        while [ ! -e late ]; do :; done
        exec true"#;
    compare("shell", &[], Steady::All, script);
}

#[test]
fn they_tell_the_same_of_threads_and_their_children() {
    let script = r#"
        cat >script.py <<'END'
import os, socket, subprocess, threading
def work(number):
    os.mkdir("t%d" % number)
    for turn in range(20):
        open("t%d/f%d" % (number, turn), "w").close()
        try: open("/nonexistent/%d-%d" % (number, turn))
        except OSError: pass
    subprocess.run(["sh", "-c", ": >s%d; exit %d" % (number, number)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", 53))
subprocess.run(["true"])
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
server.accept()[0].close()
END
        exec python3 -I -S script.py"#;
    compare("python", &["python3"], Steady::AllButDescriptors, script);
}

#[test]
fn they_tell_the_same_of_git() {
    let script = r#"
        export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000'
        git init --quiet repository
        cd repository
        git config user.email a@example.org
        git config user.name a
        git config maintenance.auto false
        for i in 1 2 3; do echo "$i" >"$i"; done
        touch -d @1000000000 1 2 3
        git add .
        git commit --quiet --message first
        git status --short
        git log --stat | cat"#;
    compare("git", &["git"], Steady::All, script);
}

#[test]
fn they_tell_the_same_of_a_compiler() {
    let script = r#"
        printf '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n' >hello.c
        gcc -O2 -o hello hello.c
        exec ./hello"#;
    compare("gcc", &["gcc"], Steady::All, script);
}

#[test]
fn they_tell_the_same_of_a_database_in_a_file() {
    let script = r#"
        sqlite3 base 'create table t (x); insert into t values (1), (2); select sum(x) from t;'
        sqlite3 base 'begin; update t set x = x + 1; commit; pragma journal_mode = wal; delete from t;'"#;
    compare("sqlite", &["sqlite3"], Steady::All, script);
}

#[test]
fn they_tell_the_same_of_a_web_server() {
    let script = r#"
        echo page >page
        cat >config <<END
worker_processes 1;
pid $HOME/pid;
error_log $HOME/errors;
events {}
http {
    access_log $HOME/log;
    client_body_temp_path $HOME/body;
    proxy_temp_path $HOME/proxy;
    fastcgi_temp_path $HOME/fastcgi;
    uwsgi_temp_path $HOME/uwsgi;
    scgi_temp_path $HOME/scgi;
    server { listen unix:$HOME/socket; location / { root $HOME; } }
}
END
        nginx -e "$HOME/errors" -c "$HOME/config"
        for name in page page missing; do
            curl --silent --output /dev/null --unix-socket socket "http://localhost/$name"
        done
        read -r pid <pid
        kill -QUIT "$pid"
        while [ -e pid ]; do :; done"#;
    compare("nginx", &["nginx", "curl"], Steady::Acts, script);
}

#[test]
fn they_tell_the_same_of_a_key_value_store() {
    let script = r#"
        redis-server --port 0 --unixsocket "$HOME/socket" --dir "$HOME" --save '' --daemonize no >/dev/null &
        python3 -I -S -c '
import socket
while True:
    try: socket.socket(socket.AF_UNIX).connect("socket")
    except OSError: continue
    break'
        redis-cli -s socket set a b
        redis-cli -s socket get a
        redis-cli -s socket shutdown nosave
        wait"#;
    compare("redis", &["redis-server", "redis-cli", "python3"], Steady::Acts, script);
}

#[test]
fn they_tell_the_same_of_a_database_server() {
    let script = r#"
        bin=$(dirname "$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1)")
        as() { "$@"; }
        (($(id -u) != 0)) || as() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
        as "$bin/initdb" --auth=trust --username=creance --pgdata="$HOME/data" --no-sync >/dev/null
        options="-c listen_addresses= -c unix_socket_directories=$HOME -c autovacuum=off"
        as "$bin/pg_ctl" --pgdata="$HOME/data" --log="$HOME/log" --options="$options" --wait start >/dev/null
        psql --host="$HOME" --username=creance --command='create table t as select 1; checkpoint;' postgres
        as "$bin/pg_ctl" --pgdata="$HOME/data" --mode=fast --wait stop >/dev/null
        ! grep --ignore-case 'interrupted' log >&2"#;
    if fs::read_dir("/usr/lib/postgresql").is_err() {
        return skip("there is no postgres");
    }
    compare("postgres", &["setpriv", "psql"], Steady::Acts, script);
}
