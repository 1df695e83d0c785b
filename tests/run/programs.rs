//! Ordinary programs: shells, interpreters, compilers, and the sample workload.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
};

use crate::support::{Capture, Workload, directory, executable, fixture, fixture_with, has_program, skip};

#[test]
fn a_shell_that_reads_the_shadow_file_is_seen_whole() {
    let script = "cat /etc/shadow >/dev/null 2>&1; (exit 4); sh -c 'exit 5'; exit 3";
    let capture = Workload::shell(script).capture();
    assert_eq!(capture.code(), 3);
    capture.check_parents();

    let root = capture.root();
    let start = capture.started(&["sh", "-c", script]);
    assert_eq!(start.pid(), Some(root));
    assert_eq!(start.text("/proc/cmdline"), Some(&*format!("sh -c {script}")));

    let cat = capture.started(&["cat", "/etc/shadow"]);
    assert_eq!(cat.text("/proc/cmdline"), Some("cat /etc/shadow"));
    assert_eq!(cat.number("/proc/ppid"), Some(root));
    assert_eq!(cat.text("/proc/pname"), Some("sh"));
    let open = capture.open("/etc/shadow");
    assert_eq!(open.pid(), cat.pid());
    assert_eq!(open.argument("flags"), Some("O_RDONLY"));
    match fs::File::open("/etc/shadow") {
        Ok(_) => assert!(open.result().unwrap() > 2),
        Err(error) => assert_eq!(open.result(), error.raw_os_error().map(|errno| -i64::from(errno))),
    }

    let statuses =
        |status| capture.of("procexit").filter(move |exit| exit.number("/args/status") == Some(status));
    let inner = capture.started(&["sh", "-c", "exit 5"]);
    assert_eq!(statuses(5).next().unwrap().pid(), inner.pid());
    assert_eq!(statuses(3).next().unwrap().pid(), Some(root));
    assert_eq!(statuses(4).count(), 1);
    assert_eq!(capture.clones().count() + 1, capture.of("procexit").count());
}

#[test]
fn every_program_of_a_pipeline_in_bash_is_seen() {
    if !has_program("bash") {
        return skip("there is no bash");
    }
    let script = "printf 'b\\na\\n' | cat | sort >/dev/null; exec true";
    let capture = Workload::new(["bash", "-c", script]).capture();
    assert_eq!(capture.code(), 0);
    capture.check_parents();
    for argv in [&["cat"][..], &["sort"]] {
        let start = capture.started(argv);
        assert_eq!(start.number("/proc/ppid"), Some(capture.root()));
        assert_eq!(start.text("/proc/pname"), Some("bash"));
        assert_eq!(capture.exit(start.pid().unwrap()).number("/args/status"), Some(0));
    }
    // The shell became another program without becoming another process.
    assert_eq!(capture.started(&["true"]).pid(), Some(capture.root()));
}

#[test]
fn failed_execs_are_seen_with_their_arguments_and_errors() {
    let program = fixture("life");
    let (_held, path) = directory();
    let plain = path.join("no-permission");
    fs::write(&plain, "text").unwrap();
    let words = [program.as_os_str(), "search".as_ref(), plain.as_os_str(), "/bin/true".as_ref()];
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    let searched: Vec<_> = capture
        .execs()
        .filter(|event| event.argv() == ["searched", "one", "two words"])
        .map(|event| (event.argument("filename").unwrap(), event.errno(), event.result()))
        .collect();
    let expected = [
        ("/nonexistent/a/searched", Some("ENOENT"), Some(-2)),
        ("/nonexistent/b/searched", Some("ENOENT"), Some(-2)),
        (plain.to_str().unwrap(), Some("EACCES"), Some(-13)),
        ("/bin/true", None, Some(0)),
    ];
    assert_eq!(searched, expected);
}

#[test]
fn a_script_is_seen_with_its_interpreter() {
    let (_held, path) = directory();
    let script = path.join("script");
    executable(&script, "#!/bin/sh -e\n: </nonexistent/from-script\n");
    let capture = Workload::new([script.as_os_str(), "one".as_ref()]).capture();
    assert_ne!(capture.code(), 0);
    let script = script.to_str().unwrap();
    let start = capture.started(&["/bin/sh", "-e", script, "one"]);
    assert_eq!(start.path("filename"), Some(script));
    assert_eq!(start.text("/proc/name"), Some("script"));
    assert_eq!(start.text("/proc/exe"), fs::canonicalize("/bin/sh").unwrap().to_str());
    assert_eq!(capture.open("/nonexistent/from-script").errno(), Some("ENOENT"));
}

#[test]
fn a_statically_linked_program_is_seen() {
    let Ok(program) = fixture_with("open", "-static", &["-static"]) else {
        return skip("cc cannot link statically");
    };
    let capture = Workload::new([program.as_os_str(), "/nonexistent/static".as_ref()]).capture();
    assert_eq!(capture.code(), 0);
    let kinds: Vec<_> = capture.events.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds.first(), Some(&"execve"));
    assert_eq!(kinds.last(), Some(&"procexit"));
    assert_eq!(capture.open("/nonexistent/static").errno(), Some("ENOENT"));
    assert!(capture.opens("/etc/ld.so.cache").is_empty());
}

#[test]
fn a_python_script_is_seen() {
    if !has_program("python3") {
        return skip("there is no python3");
    }
    let script = "import os, subprocess\n\
                  try: open('/nonexistent/from-python')\n\
                  except FileNotFoundError: pass\n\
                  raise SystemExit(subprocess.run(['sh', '-c', 'exit 11']).returncode)";
    let capture = Workload::new(["python3", "-c", script]).capture();
    assert_eq!(capture.code(), 11);
    capture.check_parents();
    assert_eq!(capture.open("/nonexistent/from-python").errno(), Some("ENOENT"));
    let shell = capture.started(&["sh", "-c", "exit 11"]);
    assert!(shell.text("/proc/pname").unwrap().starts_with("python"));
}

#[test]
fn a_git_status_is_seen() {
    if !has_program("git") {
        return skip("there is no git");
    }
    let (_held, path) = directory();
    assert!(Workload::new(["git", "init", "--quiet"]).directory(&path).natively().status.success());
    let capture = Workload::new(["git", "status", "--short"]).directory(&path).capture();
    assert_eq!(capture.code(), 0);
    assert!(!capture.opens(path.join(".git/HEAD")).is_empty());
}

#[test]
fn every_stage_of_a_compiler_is_seen() {
    if !has_program("gcc") {
        return skip("there is no gcc");
    }
    let (_held, path) = directory();
    fs::write(path.join("hello.c"), "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n")
        .unwrap();
    let capture = Workload::shell("gcc -o hello hello.c && ./hello").directory(&path).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(capture.finished.stdout(), "hello\n");
    capture.check_parents();
    let names: Vec<_> = capture.execs().filter_map(|event| event.text("/proc/name")).collect();
    for stage in ["gcc", "cc1", "as", "collect2", "ld", "hello"] {
        assert!(names.iter().any(|name| name.ends_with(stage)), "{stage} is not among {names:?}");
    }
    // The driver may look at the source itself before the compiler proper reads it.
    assert!(capture.opens(path.join("hello.c")).iter().any(|open| open.text("/proc/name") == Some("cc1")));
    assert!(!capture.opens(path.join("hello")).is_empty());
}

#[test]
fn every_action_of_the_sample_workload_is_seen() {
    for name in ["bash", "curl"] {
        if !has_program(name) {
            return skip(&format!("there is no {name}"));
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("containerimages/workload/workload.sh");
    let (_held, path) = directory();
    let (home, programs) = (path.join("home"), path.join("bin"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&programs).unwrap();
    let port = answer_one_request();
    let url = format!("http://127.0.0.1:{port}/");
    let words = ["bash", script.to_str().unwrap(), "--rounds", "1", "--bin-dir", programs.to_str().unwrap()];
    let capture = Workload::new(words.into_iter().chain(["--url", &url])).variable("HOME", &home).capture();
    assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);

    assert_actions(&capture, &home, &programs, port);
    for directory in [&home, &programs] {
        assert_eq!(
            fs::read_dir(directory).unwrap().count(),
            0,
            "something is left in {}",
            directory.display()
        );
    }
}

/// Everything that the workload's page promises.
#[track_caller]
fn assert_actions(capture: &Capture, home: &Path, programs: &Path, port: u16) {
    let is_in = |path: Option<&str>, directory: &Path| {
        path.is_some_and(|path| Path::new(path).starts_with(directory))
    };
    let made = |directory: &Path| {
        let mut made = capture.of("mkdir").chain(capture.of("mkdirat"));
        made.any(|event| event.result() == Some(0) && is_in(event.path("path"), directory))
    };
    assert!(made(programs) && made(home));
    let written = |directory: &Path, ending: &str| {
        capture.events.iter().any(|event| {
            let path = event.path("name");
            let is_made = event.argument("flags").is_some_and(|flags| flags.contains("O_CREAT"));
            event.is_open()
                && is_made
                && is_in(path, directory)
                && path.is_some_and(|path| path.ends_with(ending))
        })
    };
    assert!(written(programs, ""));
    assert!(written(&home.join(".ssh"), ".authorized_keys"));

    let curl = capture.one("execve", |event| event.text("/proc/name") == Some("curl"));
    let connect = capture.one("connect", |event| event.number("/addr/port") == Some(i64::from(port)));
    assert_eq!(connect.text("/addr/ip"), Some("127.0.0.1"));
    assert_eq!(connect.pid(), curl.pid());

    let history = home.join(".bash_history");
    let read = capture.started(&["cat", "--", history.to_str().expect("the path is text")]);
    assert!(capture.opens(&history).iter().any(|open| open.pid() == read.pid() && open.result() >= Some(0)));

    let removed = |directory: &Path| {
        let mut removed = capture.of("unlink").chain(capture.of("unlinkat")).chain(capture.of("rmdir"));
        removed.any(|event| {
            event.result() == Some(0)
                && (is_in(event.path("name"), directory) || is_in(event.path("path"), directory))
        })
    };
    assert!(removed(programs) && removed(home));
}

/// A web server for one request; gives its port.
fn answer_one_request() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback interface can be had");
    let port = listener.local_addr().expect("it has an address").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection can be accepted");
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            request.extend_from_slice(&byte);
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n";
        stream.write_all(answer).expect("the client reads its answer");
    });
    port
}
