use super::{AT_FDCWD, Captures as _, Feed, call, short};
use crate::event::CaptureKind;

#[test]
fn an_open_is_told_with_falcos_flags_and_the_descriptor() {
    let mut feed = Feed::new();
    let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC) as u64;
    let event = feed.one(call("openat", &[AT_FDCWD, 1, flags, 0o644]).path(1, "/etc/x").result(3));
    assert_eq!((short(&event), event.ts, event.tid), ("OPENAT_2_X", 1_700_000_000_123_456_789, 1234));
    assert_eq!((event.number("fd"), event.number("dirfd"), event.text("name")), (3, -100, "/etc/x".into()));
    assert_eq!((event.number("flags"), event.number("mode")), (2 | 4 | 0x100, 0o644));
    assert!(event.param("dev").is_empty() && event.param("ino").is_empty());
    let event = feed.one(call("open", &[1, 0, 0o777]).path(0, "/etc/shadow").result(-13));
    assert_eq!(
        (short(&event), event.number("fd"), event.text("name")),
        ("OPEN_X", -13, "/etc/shadow".into())
    );
    assert_eq!((event.number("flags"), event.number("mode")), (1, 0));
    let how = [libc::O_RDWR as u64, 0, 8].map(u64::to_ne_bytes).concat();
    let openat2 = call("openat2", &[AT_FDCWD, 1, 2, 24]).path(1, "/a").capture(CaptureKind::Struct, 2, &how);
    let event = feed.one(openat2.result(4));
    assert_eq!((short(&event), event.number("flags"), event.number("resolve")), ("OPENAT2_X", 3, 1));
    let event = feed.one(call("creat", &[1, 0o100_600]).path(0, "/a").result(4));
    assert_eq!((short(&event), event.number("mode")), ("CREAT_X", 0o600));
    let event = feed.one(call("memfd_create", &[1, 1]).text(0, "x").result(4));
    assert_eq!((short(&event), event.text("name"), event.number("flags")), ("MEMFD_CREATE_X", "x".into(), 1));
    let event = feed.one(call("open_by_handle_at", &[5, 1, 0]).result(4));
    assert_eq!((short(&event), event.text("path")), ("OPEN_BY_HANDLE_AT_X", "<NA>".into()));
}

#[test]
fn the_current_directory_is_told_before_a_relative_name_that_needs_it() {
    let mut feed = Feed::new();
    let open = |cwd| call("openat", &[AT_FDCWD, 1]).path(1, "../x").cwd(1, cwd);
    assert_eq!(feed.tell([open("/root")]), [("OPENAT_2_X", 1234)]);
    assert_eq!(feed.tell([open("/srv")]), [("CHDIR_X", 1234), ("OPENAT_2_X", 1234)]);
    let events = feed.events();
    assert_eq!((events[0].text("path"), events[0].number("res")), ("/srv".into(), 0));
    assert_eq!(events[1].text("name"), "../x", "as it was written: a rule looks for the dots");
    // The directory is the process's: a thread of it needs not be told again.
    assert_eq!(feed.tell([open("/srv").thread(1234, 1235)]), [("OPENAT_2_X", 1235)]);
    assert_eq!(feed.tell([open("(unreachable)/x")]), [("OPENAT_2_X", 1234)]);
}

#[test]
fn a_name_under_a_descriptor_is_made_absolute() {
    let mut feed = Feed::new();
    let openat = |path| call("openat", &[7, 1]).path(1, path);
    let event = feed.one(openat("../x").directory(0, "/srv/b"));
    assert_eq!((event.text("name"), event.number("dirfd")), ("/srv/b/../x".into(), 7));
    assert_eq!(feed.one(openat("/abs").directory(0, "/srv")).text("name"), "/abs");
    assert_eq!(feed.one(openat("x").directory(0, "pipe:[7]")).text("name"), "x");
    assert_eq!(feed.one(openat("x")).text("name"), "x");
    assert_eq!(feed.one(openat("").directory(0, "/srv")).text("name"), "/srv");
    assert_eq!(feed.one(call("openat", &[7, 1])).text("name"), "<NA>", "memory that could not be read");
    let long = "x".repeat(4090);
    assert_eq!(feed.one(openat(&long).directory(0, "/srv/abcdefgh")).text("name").len(), 4095);
}

#[test]
fn calls_on_names_have_their_parameters() {
    let mut feed = Feed::new();
    let two = |name, arguments: &[u64]| call(name, arguments).path(0, "/a").path(1, "/b");
    let at = |name, arguments: &[u64]| call(name, arguments).path(1, "/a").path(3, "/b");
    for (sample, name, old, new) in [
        (two("link", &[]), "LINK_2_X", "oldpath", "newpath"),
        (two("rename", &[]), "RENAME_X", "oldpath", "newpath"),
        (at("linkat", &[AT_FDCWD, 1, AT_FDCWD, 2, 0x400]), "LINKAT_2_X", "oldpath", "newpath"),
        (at("renameat", &[AT_FDCWD, 1, AT_FDCWD, 2]), "RENAMEAT_X", "oldpath", "newpath"),
        (at("renameat2", &[AT_FDCWD, 1, AT_FDCWD, 2, 1]), "RENAMEAT2_X", "oldpath", "newpath"),
        (call("symlink", &[]).text(0, "/a").path(1, "/b"), "SYMLINK_X", "target", "linkpath"),
        (call("symlinkat", &[1, AT_FDCWD]).text(0, "/a").path(2, "/b"), "SYMLINKAT_X", "target", "linkpath"),
    ] {
        let event = feed.one(sample.result(-2));
        assert_eq!((short(&event), event.number("res")), (name, -2));
        assert_eq!((event.text(old), event.text(new)), ("/a".into(), "/b".into()));
    }
    let event = feed.one(call("unlinkat", &[AT_FDCWD, 1, 0x200]).path(1, "/a"));
    assert_eq!(
        (short(&event), event.text("name"), event.number("flags")),
        ("UNLINKAT_2_X", "/a".into(), 0x200)
    );
    for (name, event_name) in [("unlink", "UNLINK_2_X"), ("rmdir", "RMDIR_2_X")] {
        let event = feed.one(call(name, &[]).path(0, "/a"));
        assert_eq!((short(&event), event.text("path")), (event_name, "/a".into()));
    }
    let event = feed.one(call("mkdir", &[1, 0o755]).path(0, "/a"));
    assert_eq!((short(&event), event.number("mode")), ("MKDIR_2_X", 0o755));
    let event = feed.one(call("mkdirat", &[AT_FDCWD, 1, 0o755]).path(1, "/a"));
    assert_eq!((short(&event), event.text("path")), ("MKDIRAT_X", "/a".into()));
    let event = feed.one(call("chmod", &[1, 0o4755]).path(0, "/a"));
    assert_eq!((short(&event), event.number("mode")), ("CHMOD_X", 0o4755));
    let event = feed.one(call("fchmod", &[5, 0o4755]));
    assert_eq!((short(&event), event.number("fd")), ("FCHMOD_X", 5));
    for name in ["fchmodat", "fchmodat2"] {
        let event = feed.one(call(name, &[AT_FDCWD, 1, 0o2755]).path(1, "/a"));
        assert_eq!(
            (short(&event), event.text("filename"), event.number("mode")),
            ("FCHMODAT_X", "/a".into(), 0o2755)
        );
    }
    let event = feed.one(call("mount", &[1, 2, 3, 1]).text(0, "proc").path(1, "/proc").text(2, "proc"));
    assert_eq!((short(&event), event.text("dir"), event.number("flags")), ("MOUNT_X", "/proc".into(), 1));
    let event = feed.one(call("umount2", &[1, 2]).path(0, "/proc"));
    assert_eq!((short(&event), event.number("flags")), ("UMOUNT2_X", 2));
    let event = feed.one(call("chroot", &[]).path(0, "/jail"));
    assert_eq!((short(&event), event.text("path")), ("CHROOT_X", "/jail".into()));
}

#[test]
fn a_change_of_directory_is_told_as_an_absolute_one() {
    let mut feed = Feed::new();
    let event = feed.one(call("chdir", &[1]).path(0, "sub").cwd(0, "/root"));
    assert_eq!((short(&event), event.text("path")), ("CHDIR_X", "/root/sub".into()));
    let open = |cwd| call("open", &[1]).path(0, "x").cwd(0, cwd);
    assert_eq!(feed.tell([open("/root/sub")]), [("OPEN_X", 1234)]);
    let told = feed.tell([call("fchdir", &[5]).directory(0, "/srv"), open("/srv")]);
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["OPEN_BY_HANDLE_AT_X", "FCHDIR_X", "CHDIR_X", "OPEN_X"]);
    assert_eq!(feed.tell([call("chdir", &[1]).path(0, "/no").result(-2), open("/srv")]).len(), 2);
    // Where a descriptor led that no record tells, the next relative name shows.
    assert_eq!(feed.tell([call("fchdir", &[5]), open("/srv")]).len(), 3);
}

#[test]
fn descriptors_of_no_file_have_their_events() {
    let mut feed = Feed::new();
    let cloexec = 0o2_000_000;
    for (sample, name) in [
        (call("close", &[5]), "CLOSE_X"),
        (call("fcntl", &[5, 1030, 10]), "FCNTL_X"),
        (call("epoll_create", &[5]), "EPOLL_CREATE_X"),
        (call("epoll_create1", &[cloexec]), "EPOLL_CREATE1_X"),
        (call("eventfd", &[5]), "EVENTFD_X"),
        (call("eventfd2", &[5, cloexec]), "EVENTFD2_X"),
        (call("inotify_init", &[]), "INOTIFY_INIT_X"),
        (call("inotify_init1", &[cloexec]), "INOTIFY_INIT1_X"),
        (call("signalfd", &[5]), "SIGNALFD_X"),
        (call("signalfd4", &[5, 1, 8, cloexec]), "SIGNALFD4_X"),
        (call("timerfd_create", &[1, 0]), "TIMERFD_CREATE_X"),
        (call("userfaultfd", &[cloexec]), "USERFAULTFD_X"),
        (call("pidfd_open", &[7, 0]), "PIDFD_OPEN_X"),
        (call("pidfd_getfd", &[5, 6, 0]), "PIDFD_GETFD_X"),
    ] {
        let event = feed.one(sample.result(9));
        assert_eq!(short(&event), name);
        assert_eq!(i64::from_ne_bytes(event.params[0].try_into().unwrap()), 9);
    }
    let params: Vec<u8> = [0, 0, 3, 1, 2, 7].map(u32::to_ne_bytes).concat();
    let event = feed.one(call("io_uring_setup", &[8]).capture(CaptureKind::Struct, 1, &params).result(9));
    assert_eq!((short(&event), event.number("entries"), event.number("flags")), ("IO_URING_SETUP_X", 8, 7));
    assert_eq!((event.number("sq_thread_cpu"), event.number("features")), (1, 7));
}

#[test]
fn a_descriptor_is_told_by_its_path_before_a_call_that_is_about_it() {
    let mut feed = Feed::new();
    for (name, open_flags) in [("fchmod", 0), ("fchdir", 0x400), ("finit_module", 0)] {
        let about = |path| call(name, &[5, 0o4755]).directory(0, path);
        feed.tell([about("/srv/a b")]);
        let event = feed.events().into_iter().next().unwrap();
        assert_eq!((short(&event), event.number("fd")), ("OPEN_BY_HANDLE_AT_X", 5), "{name}");
        assert_eq!((event.text("path"), event.number("flags")), ("/srv/a b".into(), open_flags));
        feed.tell([about("/srv/gone (deleted)")]);
        assert_eq!(feed.events()[0].text("path"), "/srv/gone");
        // What is no file was made by a call that Falco is told of, or is nothing that it could know.
        for path in ["pipe:[7]", "socket:[8]", ""] {
            assert_ne!(feed.tell([about(path)])[0].0, "OPEN_BY_HANDLE_AT_X", "{name} of {path}");
        }
    }
}
