use std::{
    collections::HashSet,
    io::Write,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

const FULL_ID: &str = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";
const TASK: &str = "0123456789abcdef0123456789abcdef";

fn id(digit: char) -> String {
    digit.to_string().repeat(ID_DIGITS)
}

// ---- Values ----

#[test]
fn a_full_id_is_kept_in_lower_case() {
    assert_eq!(parse_id(&id('A')), Ok(id('a')));
}

#[test]
fn a_short_id_gets_zeros_behind_it() {
    let full = parse_id("0123456789AB").unwrap();
    assert_eq!(full, format!("0123456789ab{}", "0".repeat(52)));
    assert_eq!(parse_id(&full).unwrap(), full);
}

#[test]
fn an_ecs_runtime_id_begins_with_its_number() {
    assert_eq!(
        parse_id(&format!("{TASK}-2495160603")).unwrap(),
        format!("2495160603ee{TASK}{}", "0".repeat(20))
    );
    assert_eq!(
        parse_id(&format!("{TASK}-7").to_uppercase()).unwrap(),
        format!("7eeeeeeeeeee{TASK}{}", "0".repeat(20))
    );
}

#[test]
fn what_is_no_id_is_refused_and_told_what_would_be_one() {
    let refused = [
        String::new(),
        "0123456789a".to_owned(),
        "0123456789ag".to_owned(),
        format!("{}0", id('a')),
        format!("{TASK}-"),
        format!("{TASK}-1234567890123"),
        format!("{TASK}-12a"),
        format!("{TASK}--1"),
        format!("{TASK}x-1"),
        format!(" {}", id('a')),
        "é".repeat(32),
    ];
    for text in refused {
        let error = parse_id(&text).expect_err(&text).to_string();
        assert!(error.contains("64 hexadecimal digits") && error.contains("ECS runtime id"), "{error}");
    }
    let long = parse_id(&"é\n".repeat(100_000)).unwrap_err().to_string();
    assert!(long.len() < 1000 && !long.contains('\n'), "{long}");
}

#[test]
fn names_and_images_are_bounded_and_printable() {
    assert_eq!(parse_name("web-1"), Ok("web-1".to_owned()));
    assert_eq!(parse_image("r.example:80/a/b:c@sha256:0"), Ok("r.example:80/a/b:c@sha256:0".to_owned()));
    for text in ["", "a b", "a\n", "a\u{202e}b", &"a".repeat(limits::CONTAINER_IMAGE_BYTES_MAX + 1)] {
        assert!(parse_name(text).is_err() && parse_image(text).is_err(), "{text:?}");
    }
    let error = parse_name(&"a".repeat(limits::CONTAINER_NAME_BYTES_MAX + 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is not a container name: that is 1 to 255 printable ASCII characters without spaces")
    );
}

#[test]
fn an_identity_that_a_peer_sent_is_checked() {
    let identity = ContainerIdentity { id: Some(id('a')), name: Some("web".to_owned()), image: None };
    let text = serde_json::to_string(&identity).unwrap();
    assert_eq!(serde_json::from_str::<ContainerIdentity>(&text).unwrap(), identity);
    assert_eq!(serde_json::from_str::<ContainerIdentity>("{}").unwrap(), ContainerIdentity::default());
    for text in [r#"{"id":"../x"}"#, r#"{"name":"a\u0000"}"#, r#"{"image":""}"#] {
        assert!(serde_json::from_str::<ContainerIdentity>(text).is_err(), "{text}");
    }
}

// ---- /proc/PID/cgroup ----

#[test]
fn a_directory_named_by_an_id_in_any_runtimes_way_is_found() {
    let a = id('a');
    for path in [
        format!("/docker/{a}"),
        format!("/docker/{a}/init.scope"),
        format!("/docker/{}/docker/{a}", id('b')),
        format!("/system.slice/docker-{a}.scope"),
        format!("/kubepods/besteffort/pod0-1/{a}"),
        format!("/kubepods.slice/kubepods-pod0_1.slice/cri-containerd-{a}.scope"),
        format!("/system.slice/containerd.service/kubepods-pod0.slice:cri-containerd:{a}"),
        format!("/kubepods.slice/kubepods-pod0_1.slice/crio-{a}.scope"),
        format!("/kubepods/pod0/crio-{a}"),
        format!("/machine.slice/libpod-{a}.scope/container"),
        format!("/libpod_parent/libpod-{a}"),
        format!("/user.slice/run-1.scope/libpod-payload-{a}"),
        format!("/default/nerdctl-{a}.scope"),
        format!("/../{a}"),
    ] {
        assert_eq!(cgroups::id_in(format!("0::{path}\n").as_bytes()).as_ref(), Some(&a), "{path}");
        assert_eq!(cgroups::id_in(format!("1:name=systemd:/\n4:cpu:{path}").as_bytes()).as_ref(), Some(&a));
    }
}

#[test]
fn the_cgroup_of_an_ecs_task_names_the_container() {
    let text = format!("9:memory:/ecs/{TASK}/{TASK}-271828\n");
    assert_eq!(cgroups::id_in(text.as_bytes()), Some(parse_id(&format!("{TASK}-271828")).unwrap()));
}

#[test]
fn a_cgroup_that_names_no_container_says_nothing() {
    let a = id('a');
    for text in [
        "",
        "0::/\n",
        "0::/../../init.scope",
        "0::/user.slice/user-1000.slice/session-1.scope\n",
        &format!("0::/machine.slice/libpod-conmon-{a}.scope\n"),
        &format!("0::/x/{a}a\n"),
        &format!("0::/x/other-{a}\n"),
        &a,
        &format!("0:{a}"),
    ] {
        assert_eq!(cgroups::id_in(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn the_cgroup_text_of_an_id_names_that_id() {
    assert_eq!(cgroups::id_in(&cgroups_of(&id('a'))), Some(id('a')));
}

// ---- /proc/PID/mountinfo ----

fn mount(root: &str, mount_point: &str) -> String {
    format!("640 620 254:1 {root} {mount_point} rw,relatime - ext4 /dev/vda1 rw\n")
}

#[test]
fn the_owner_of_the_files_under_etc_is_found() {
    let a = id('a');
    for root in [
        format!("/var/lib/docker/containers/{a}/hosts"),
        format!("/containers/{a}/hosts"),
        format!("/var/lib/nerdctl/1935db59/containers/default/{a}/hosts"),
        format!("/containers/storage/overlay-containers/{a}/userdata/hosts"),
    ] {
        let text = mount("/", "/").repeat(3) + &mount(&root, "/etc/hosts");
        let expected = mounts::Mounts { id: Some(a.clone()), ..Default::default() };
        assert_eq!(mounts::read(text.as_bytes()), expected, "{root}");
    }
}

#[test]
fn a_pod_is_known_by_its_sandbox_or_by_the_kubelets_files() {
    let a = id('a');
    let sandbox = mount(
        &format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{a}/resolv.conf"),
        "/etc/resolv.conf",
    );
    let expected = mounts::Mounts { id: Some(a.clone()), is_in_pod: true, name: None };
    assert_eq!(mounts::read(sandbox.as_bytes()), expected);

    let uid = "01234567-89ab-cdef-0123-456789abcdef";
    for uid in [uid, TASK] {
        let text = mount(&format!("/run/overlay-containers/{a}/userdata/hostname"), "/etc/hostname")
            + &mount(&format!("/var/lib/kubelet/pods/{uid}/etc-hosts"), "/etc/hosts")
            + &mount(&format!("/var/lib/kubelet/pods/{uid}/containers/web/1a2b3c4d"), "/dev/termination-log");
        let expected = mounts::Mounts { id: Some(a.clone()), is_in_pod: true, name: Some("web".to_owned()) };
        assert_eq!(mounts::read(text.as_bytes()), expected);
    }
}

#[test]
fn mounts_that_tell_no_container_say_nothing() {
    let a = id('a');
    let text = [
        mount(&format!("/var/lib/docker/containers/{a}/hosts"), "/mnt/hosts"),
        mount(&format!("/var/lib/docker/volumes/{a}/_data/hosts"), "/etc/hosts"),
        mount(&format!("/var/lib/docker/overlay2/{a}/hosts"), "/etc/hosts"),
        mount("/var/lib/docker/containers/0123456789ab/hosts", "/etc/hosts"),
        mount("/srv/pods/blue/containers/web/1", "/data"),
        "640 620 254:1\n\n 1 2 3 4 5".to_owned(),
    ];
    assert_eq!(mounts::read(text.concat().as_bytes()), mounts::Mounts::default());
}

proptest! {
    #[test]
    fn junk_is_read_without_panic_and_gives_nothing_but_ids(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::sample::select(vec![
                    "0::/", "/", ":", " ", "\n", "-", ".scope", "docker-", "containers", "sandboxes", "-containers",
                    "/etc/hosts", "pods", "1 2 3:4 ", TASK, FULL_ID,
                    "01234567-89ab-cdef-0123-456789abcdef", "-12345",
                ]).prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..30,
        ),
    ) {
        let text = parts.concat();
        let mounts = mounts::read(&text);
        for id in [cgroups::id_in(&text), mounts.id].into_iter().flatten() {
            prop_assert_eq!(parse_id(&id), Ok(id));
        }
        prop_assert!(mounts.name.as_deref().map(parse_name).transpose().is_ok());
        let _ = parse_id(&String::from_utf8_lossy(&text));
        let _ = serde_json::from_slice::<ecs::Answer>(&text);
    }

    #[test]
    fn an_ecs_runtime_id_can_be_read_back(task in "[0-9a-f]{32}", number in "[0-9]{1,12}") {
        let id = parse_id(&format!("{task}-{number}")).unwrap();
        prop_assert_eq!(id.len(), ID_DIGITS);
        let (short, rest) = id.split_at(SHORT_ID_DIGITS);
        prop_assert_eq!(short.trim_end_matches('e'), number);
        prop_assert_eq!(&rest[..TASK_DIGITS], task);
        prop_assert_eq!(parse_id(&id), Ok(id.clone()));
    }
}

#[test]
fn containers_of_one_task_differ_in_what_falco_shows() {
    let ids: HashSet<_> = (0..20_000)
        .map(|number| parse_id(&format!("{TASK}-{number}")).unwrap()[..SHORT_ID_DIGITS].to_owned())
        .collect();
    assert_eq!(ids.len(), 20_000);
}

// ---- The ECS metadata endpoint ----

/// Serves one connection: reads the request, writes the answer, and holds the connection until the client lets go.
fn serve(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v4/0123", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        // A client that has read enough does not take the rest.
        let _ = stream.write_all(&answer);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = stream.read(&mut [0]);
    });
    url
}

/// Asks, and gives a busy machine time for it.
fn ask(url: &str) -> Result<ecs::Answer, ecs::EcsError> {
    ecs::ask(url, 60)
}

fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        request.push(byte[0]);
    }
    assert!(request.starts_with(b"GET /v4/0123 HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn the_answer_of_ecs_gives_id_name_and_image() {
    let body = format!(
        r#"{{"DockerId":"{TASK}-2495160603","Name":"web","DockerName":"web","Image":"r.example/web:1",
            "Labels":{{"x":"y"}},"Limits":{{"CPU":2}},"Networks":[{{"NetworkMode":"awsvpc"}}]}}"#
    );
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for answer in [ok(&body), chunked] {
        let (identity, refused) = ask(&serve(answer)).unwrap().identity();
        assert_eq!(identity.id, parse_id(&format!("{TASK}-2495160603")).ok());
        assert_eq!(identity.name.as_deref(), Some("web"));
        assert_eq!(identity.image.as_deref(), Some("r.example/web:1"));
        assert_eq!(refused, []);
    }
}

#[test]
fn a_field_of_ecs_that_is_unfit_is_left_out_and_told() {
    let body = r#"{"DockerId":"soon","DockerName":"","Name":"web","Image":null}"#;
    let (identity, refused) = ask(&serve(ok(body))).unwrap().identity();
    assert_eq!(identity, ContainerIdentity { name: Some("web".to_owned()), ..Default::default() });
    assert_eq!(refused, [IdentityError::Id { given: "soon".to_owned() }]);
}

#[test]
fn an_answer_that_is_late_is_not_waited_for() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
        let start = Instant::now();
        let error = ecs::ask(&serve(answer), limits::ECS_METADATA_SECONDS_MAX).unwrap_err();
        assert!(matches!(error, ecs::EcsError::Request { .. } | ecs::EcsError::Body { .. }), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(limits::ECS_METADATA_SECONDS_MAX + 4));
    }
}

#[test]
fn an_answer_that_is_no_metadata_is_an_error() {
    for body in ["", "null", "{}", r#"{"DockerId":7}"#, "<html>", "\u{0}\u{1}"] {
        let error = ask(&serve(ok(body))).unwrap_err();
        assert!(matches!(error, ecs::EcsError::Json { .. }), "{body:?}: {error:?}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let body = format!(r#"{{"DockerId":"{}"#, "a".repeat(4 * 1024 * 1024));
    let error = ask(&serve(ok(&body))).unwrap_err();
    assert!(matches!(error, ecs::EcsError::TooLong { .. }), "{error:?}");
    let error = ask(&serve(format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(100_000)))).unwrap_err();
    assert!(matches!(error, ecs::EcsError::Request { .. }), "{error:?}");
}

#[test]
fn a_status_other_than_200_is_an_error_and_no_redirect_is_followed() {
    for status in [404, 500, 302] {
        let answer =
            format!("HTTP/1.1 {status} Other\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
        let error = ask(&serve(answer)).unwrap_err();
        assert!(matches!(error, ecs::EcsError::Status { status: told, .. } if told == status), "{error:?}");
    }
    let error = ask(&serve("junk\r\n\r\n")).unwrap_err();
    assert!(matches!(error, ecs::EcsError::Status { status: 503, .. }), "{error:?}");
}

#[test]
fn a_client_that_panics_is_an_error() {
    // One byte less than the bound, and no carriage return.
    let error = ask(&serve(format!("HTTP/1.1 200 OK\r\n{:a<8191}\n\r\n", "X:"))).unwrap_err();
    // Without overflow checks the client goes on to a body that does not end in time.
    let is_expected = match error {
        ecs::EcsError::Client { .. } => cfg!(debug_assertions),
        ref error => !cfg!(debug_assertions) && matches!(error, ecs::EcsError::Body { .. }),
    };
    assert!(is_expected, "{error:?}");
}

#[test]
fn an_url_that_is_no_url_is_an_error() {
    for url in ["", "169.254.170.2/v4", "https://127.0.0.1:1/", "http://", "http://\u{fffd}/", "http://[::1"]
    {
        assert!(matches!(ask(url), Err(ecs::EcsError::Request { .. })), "{url}");
    }
}

// ---- All of it ----

/// A directory with a text in the place of each of the two under `/proc`.
struct Texts {
    directory: tempfile::TempDir,
}

impl Texts {
    fn new(cgroup: &str, mountinfo: &str) -> Self {
        let texts = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::write(texts.path("cgroup"), cgroup).unwrap();
        std::fs::write(texts.path("mountinfo"), mountinfo).unwrap();
        texts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn find(&self, given: &ContainerIdentity, metadata_url: Option<String>) -> Found {
        let (cgroup, mountinfo) = (self.path("cgroup"), self.path("mountinfo"));
        Surroundings { metadata_url, cgroup: &cgroup, mountinfo: &mountinfo }.find(given)
    }
}

fn docker_mount(id: &str) -> String {
    mount(&format!("/var/lib/docker/containers/{id}/hosts"), "/etc/hosts")
}

fn only_id(id: String) -> ContainerIdentity {
    ContainerIdentity { id: Some(id), ..Default::default() }
}

#[test]
fn what_the_user_gave_stands_and_the_rest_is_looked_for() {
    let texts = Texts::new(&format!("0::/docker/{}\n", id('b')), "");
    let body = format!(r#"{{"DockerId":"{}","DockerName":"theirs","Image":"image"}}"#, id('c'));
    let given = ContainerIdentity { name: Some("mine".to_owned()), ..only_id(id('a')) };
    let found = texts.find(&given, Some(serve(ok(&body))));
    assert_eq!(found.identity, ContainerIdentity { image: Some("image".to_owned()), ..given });
    assert_eq!(found.to_string(), "container aaaaaaaaaaaa (as given)");
    assert_eq!(found.warnings, [""; 0]);
}

#[test]
fn the_endpoint_is_not_asked_where_all_is_given() {
    let given = ContainerIdentity {
        name: Some("mine".to_owned()),
        image: Some("image".to_owned()),
        ..only_id(id('a'))
    };
    let found = Texts::new("", "").find(&given, Some("http://no such host".to_owned()));
    assert_eq!((found.identity, found.warnings), (given, vec![]));
}

#[test]
fn ecs_metadata_counts_before_the_texts() {
    let texts = Texts::new(&format!("0::/docker/{}\n", id('b')), &docker_mount(&id('c')));
    let body = format!(r#"{{"DockerId":"{TASK}-2495160603"}}"#);
    let found = texts.find(&ContainerIdentity::default(), Some(serve(ok(&body))));
    assert_eq!(found.to_string(), "container 2495160603ee (from ECS metadata)");
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_a_warning() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v4", listener.local_addr().unwrap());
    drop(listener);
    let texts = Texts::new(&format!("0::/docker/{}\n", id('b')), &docker_mount(&id('c')));
    let found = texts.find(&ContainerIdentity::default(), Some(url.clone()));
    assert_eq!(found.identity, only_id(id('b')));
    assert_eq!(found.to_string(), "container bbbbbbbbbbbb (from /proc/self/cgroup)");
    let [warning] = found.warnings.as_slice() else { panic!("{:?}", found.warnings) };
    assert!(warning.starts_with(&format!("asking ECS metadata at {url}: ")), "{warning}");
}

#[test]
fn in_a_private_cgroup_namespace_the_mounts_count() {
    let found = Texts::new("0::/\n", &docker_mount(&id('c'))).find(&ContainerIdentity::default(), None);
    assert_eq!(found.identity, only_id(id('c')));
    assert_eq!(found.to_string(), "container cccccccccccc (from /proc/self/mountinfo)");
}

#[test]
fn a_sandbox_stands_for_the_container_only_where_nothing_names_it() {
    let sandbox = mount(&format!("/x/sandboxes/{}/hostname", id('c')), "/etc/hostname")
        + &mount(&format!("/pods/{TASK}/containers/web/0"), "/dev/termination-log");
    let found = Texts::new("0::/\n", &sandbox).find(&ContainerIdentity::default(), None);
    assert_eq!(found.to_string(), "container cccccccccccc (its pod's sandbox, from /proc/self/mountinfo)");
    let found = Texts::new(&format!("0::/kubepods/pod0/{}\n", id('b')), &sandbox)
        .find(&ContainerIdentity::default(), None);
    assert_eq!(found.id_source, Some(Source::Cgroup));
    assert_eq!(found.identity, ContainerIdentity { name: Some("web".to_owned()), ..only_id(id('b')) });
}

#[test]
fn outside_of_containers_there_is_none() {
    let found = Texts::new("0::/user.slice\n", &mount("/", "/")).find(&ContainerIdentity::default(), None);
    assert_eq!(found, Found::default());
    assert_eq!(found.to_string(), "no container");
}

#[test]
fn a_text_that_cannot_be_read_is_a_warning() {
    let texts = Texts::new("", &docker_mount(&id('c')));
    std::fs::remove_file(texts.path("cgroup")).unwrap();
    let found = texts.find(&ContainerIdentity::default(), None);
    assert_eq!(found.identity, only_id(id('c')));
    assert!(found.warnings[0].contains("cgroup: No such file"), "{:?}", found.warnings);
}

#[test]
fn this_machine_is_looked_at_without_warnings() {
    let found = find(&only_id(id('a')));
    assert_eq!((found.identity.id, found.id_source), (Some(id('a')), Some(Source::Given)));
}
