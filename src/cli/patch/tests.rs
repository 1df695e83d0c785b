//! What is added is what the files in `taskdefinitions/` and `podspecs/` say; everything else stays; nothing panics.

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value as Json, json};

use super::{tree::Tree, *};

const REGISTRY: &str = "ACCOUNT_ID.dkr.ecr.REGION.amazonaws.com/";
const TASKS: [Pattern; 4] =
    [Pattern::EmbeddedBinaries, Pattern::MountedBinaries, Pattern::SidecarVolume, Pattern::SidecarAttach];
const PODS: [Pattern; 4] =
    [Pattern::EmbeddedBinaries, Pattern::MountedBinaries, Pattern::SidecarVolume, Pattern::SidecarPtrace];

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn plain_task() -> String {
    file("tests/deployments/samples/plain.json")
}

fn plain_pod() -> String {
    file("tests/deployments/samples/plain.yaml")
}

fn several() -> String {
    file("tests/deployments/samples/several.yaml")
}

/// A request with all that a pattern may ask for.
fn request(pattern: Pattern) -> Request {
    let mut request = Request::new(pattern);
    request.image_prefix = Some(REGISTRY.into());
    if !matches!(pattern, Pattern::MountedBinaries | Pattern::SidecarAttach) {
        request.workload_image =
            Some(format!("{REGISTRY}creance-{}:{}", pattern.name(), env!("CARGO_PKG_VERSION")));
    }
    if pattern == Pattern::SidecarAttach {
        request.program = Some("workload.sh".into());
    }
    request
}

fn of_container(name: &str, pattern: Pattern) -> Request {
    Request { container: Some(name.into()), ..request(pattern) }
}

/// A tree of YAML as JSON, in which every scalar is text.
fn plain(value: Value<'_>) -> Json {
    if value.is_mapping() {
        let entries = value.entries().map(|(key, value)| (key.text().unwrap_or("").into(), plain(value)));
        Json::Object(entries.collect())
    } else if value.is_list() {
        value.items().map(plain).collect()
    } else {
        value.text().map_or(Json::Null, Json::from)
    }
}

fn documents(text: &str) -> Vec<Json> {
    Tree::yaml(text).unwrap().documents().map(plain).collect()
}

/// The entry point that the Dockerfile of one of our images has.
fn entrypoint_of(image: &str) -> Vec<Json> {
    let name = image.rsplit_once("creance-").unwrap().1.split(':').next().unwrap();
    let text = file(&format!("containerimages/{name}/Dockerfile"));
    let line = text.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    serde_json::from_str(line).unwrap()
}

/// A container, in which what it runs is one list, whoever says it, and creance is named without its directory.
fn normal(mut container: Json, keys: Keys) -> Json {
    let object = container.as_object_mut().unwrap();
    if object["name"] == "workload" {
        let list = |value: Option<Json>| value.map(|value| value.as_array().unwrap().clone());
        let entrypoint = list(object.remove(keys.entrypoint));
        let mut runs = entrypoint.unwrap_or_else(|| entrypoint_of(object["image"].as_str().unwrap()));
        runs.extend(list(object.remove(keys.command)).unwrap_or_default());
        if runs[0] == "/usr/local/bin/creance" {
            runs[0] = "creance".into();
        }
        object.insert("runs".into(), runs.into());
    }
    for list in object.values_mut().filter_map(Json::as_array_mut) {
        if list.iter().all(Json::is_object) {
            list.sort_by_key(Json::to_string);
        }
    }
    container
}

fn by_name(containers: &mut Json, keys: Keys) {
    let list = containers.as_array_mut().unwrap();
    list.iter_mut().for_each(|container| *container = normal(container.take(), keys));
    list.sort_by_key(|container| container["name"].to_string());
}

#[test]
fn a_patched_task_is_the_task_definition_of_its_pattern() {
    let keys = Keys { entrypoint: "entryPoint", command: "command" };
    for pattern in TASKS {
        let patched = task_definition(&plain_task(), &request(pattern)).unwrap();
        let ours = file(&format!("taskdefinitions/{}.json", pattern.name()));
        let [mut patched, mut ours] =
            [patched.text, ours].map(|text| serde_json::from_str::<Json>(&text).unwrap());
        ours["family"] = "creance-plain".into();
        for task in [&mut patched, &mut ours] {
            by_name(&mut task["containerDefinitions"], keys);
        }
        assert_eq!(patched, ours, "{}", pattern.name());
    }
}

/// Our own pods, named as a patched one, and without the rule that is an example.
fn our_pod(pattern: Pattern) -> (Json, Option<Json>) {
    let name = pattern.name();
    let mut text = file(&format!("podspecs/{name}.yaml"));
    for volume in ["link", "configuration", "binaries"] {
        text = text.replace(&format!("name: {volume}\n"), &format!("name: creance-{volume}\n"));
    }
    let mut documents = documents(&text);
    let (mut pod, mut map) = (documents.pop().unwrap(), documents.pop().unwrap());
    pod["metadata"]["name"] = "creance-plain".into();
    pod["metadata"]["labels"]["app.kubernetes.io/name"] = "creance-plain".into();
    map["metadata"]["name"] = "creance-plain-creance".into();
    map["data"].as_object_mut().unwrap().remove("local_rules.yaml");
    let has_files = !map["data"].as_object().unwrap().is_empty();
    let spec = &mut pod["spec"];
    for container in spec["containers"].as_array_mut().unwrap() {
        let mounts = container["volumeMounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["subPath"] != "local_rules.yaml");
    }
    let volumes = spec["volumes"].as_array_mut().unwrap();
    volumes.retain(|volume| has_files || volume["name"] != "creance-configuration");
    for volume in volumes {
        if volume["name"] == "creance-configuration" {
            volume["configMap"]["name"] = "creance-plain-creance".into();
        }
    }
    (pod, has_files.then_some(map))
}

#[test]
fn a_patched_pod_is_the_pod_of_its_pattern() {
    let keys = Keys { entrypoint: "command", command: "args" };
    for pattern in PODS {
        let patched = pods(&plain_pod(), &request(pattern)).unwrap();
        let mut documents = documents(&patched.text).into_iter();
        let (mut pod, map) = (documents.next().unwrap(), documents.next());
        let (mut our_pod, our_map) = our_pod(pattern);
        for pod in [&mut pod, &mut our_pod] {
            let spec = &mut pod["spec"];
            by_name(&mut spec["containers"], keys);
            spec["volumes"].as_array_mut().unwrap().sort_by_key(Json::to_string);
            // These are the workload's own, and the image's.
            for container in spec["containers"].as_array_mut().unwrap() {
                let container = container.as_object_mut().unwrap();
                if container["name"] == "workload" {
                    container.retain(|key, _| key != "resources" && key != "env");
                }
            }
        }
        assert_eq!(pod, our_pod, "{}", pattern.name());
        assert_eq!(map, our_map, "{}", pattern.name());
    }
}

/// What is in the first but not in the second, line by line.
fn lost_lines<'a>(before: &'a str, after: &str) -> Vec<&'a str> {
    let mut rest: Vec<_> = after.lines().collect();
    before
        .lines()
        .filter(|line| match rest.iter().position(|other| other == line) {
            Some(at) => {
                rest.remove(at);
                false
            }
            None => true,
        })
        .collect()
}

#[test]
fn everything_else_of_a_file_stays_as_it_was() {
    let text = several();
    let asked = Request { object: Some("shop".into()), ..of_container("web", Pattern::MountedBinaries) };
    let patched = pods(&text, &asked).unwrap();
    assert_eq!(lost_lines(&text, &patched.text), [r#"        command: ["/bin/sh", "-c"]"#]);
    let lines: Vec<_> = patched.text.lines().collect();
    assert!(lines.contains(
        &r#"        command: [/creance/creance, run, --link, /run/creance, --wait-consumer, "30", "--", "/bin/sh", "-c"]"#
    ));

    let text = r#"{
	"family": "shop", "unknownKey": [1.50, 1e3, "ü"],
	"containerDefinitions": [
		{ "name": "web", "image": "shop:1", "entryPoint": ["web"], "alsoUnknown": {"a":   "b"} }
	],
	"cpu": "256"
}"#;
    let patched = task_definition(text, &request(Pattern::MountedBinaries)).unwrap();
    for kept in [
        r#""unknownKey": [1.50, 1e3, "ü"],"#,
        r#""alsoUnknown": {"a":   "b"}"#,
        "\n\t\t{\n\t\t\t\"name\": \"falco\",",
    ] {
        assert!(patched.text.contains(kept), "{kept} is not in {}", patched.text);
    }
    assert!(patched.text.ends_with('}'));
}

#[test]
fn patching_again_changes_nothing_and_another_pattern_is_refused() {
    for (patterns, patch, text) in [
        (TASKS, task_definition as fn(&str, &Request) -> Result<Patched, Refusal>, plain_task()),
        (PODS, pods, plain_pod()),
    ] {
        for pattern in patterns {
            let patched = patch(&text, &request(pattern)).unwrap();
            assert!(patched.is_changed);
            let again = patch(&patched.text, &request(pattern)).unwrap();
            assert_eq!((again.is_changed, &again.text), (false, &patched.text), "{}", pattern.name());
            for other in patterns.into_iter().filter(|&other| other != pattern) {
                let refusal = patch(&patched.text, &request(other)).unwrap_err();
                assert!(refusal.message.contains(pattern.name()), "{refusal}");
            }
        }
    }
}

#[test]
fn our_own_task_definitions_are_known_as_patched() {
    for pattern in TASKS {
        let text = file(&format!("taskdefinitions/{}.json", pattern.name()));
        let again = task_definition(&text, &request(pattern)).unwrap();
        assert_eq!((again.is_changed, again.text), (false, text), "{}", pattern.name());
    }
}

#[test]
fn a_second_container_is_watched_by_the_same_falco() {
    let first = Request { object: Some("shop".into()), ..of_container("web", Pattern::MountedBinaries) };
    let mut second = Request { container: Some("exporter".into()), ..first.clone() };
    let text = pods(&several(), &first).unwrap().text;
    second.entrypoint = Some(vec!["exporter".into()]);
    second.command = Some(Vec::new());
    let patched = pods(&text, &second).unwrap().text;
    let spec = &documents(&patched)[1]["spec"]["template"]["spec"];
    let names: Vec<_> = spec["containers"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["web", "exporter", "falco"]);
    assert_eq!(spec["containers"][1]["command"][0], "/creance/creance");
    let refusal = task_definition(
        &task_definition(&two_containers(), &of_container("web", Pattern::SidecarAttach)).unwrap().text,
        &of_container("api", Pattern::SidecarAttach),
    );
    assert!(refusal.unwrap_err().message.contains("one only"));
}

fn two_containers() -> String {
    json!({"family": "shop", "containerDefinitions": [
        {"name": "web", "image": "web:1", "entryPoint": ["web"]}, {"name": "api", "image": "api:1", "entryPoint": ["api"]},
    ]})
    .to_string()
}

#[test]
fn of_several_containers_one_has_to_be_named() {
    for (refusal, names) in [
        (task_definition(&two_containers(), &request(Pattern::MountedBinaries)), "web, api"),
        (pods(&several(), &request(Pattern::MountedBinaries)), "web, exporter"),
    ] {
        let refusal = refusal.unwrap_err();
        assert!(refusal.message.contains(names) && refusal.message.contains("--container"), "{refusal}");
        assert!(refusal.at.is_some());
    }
    let refusal =
        task_definition(&two_containers(), &of_container("no", Pattern::MountedBinaries)).unwrap_err();
    assert!(refusal.message.contains("no container no"), "{refusal}");
}

#[test]
fn a_job_ends_although_falco_does_not() {
    let request = Request { object: Some("report".into()), ..request(Pattern::SidecarVolume) };
    let patched = pods(&several(), &request).unwrap().text;
    let spec = &documents(&patched)[2]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&spec["initContainers"][0]["name"], &spec["initContainers"][0]["restartPolicy"]),
        (&json!("falco"), &json!("Always"))
    );
    assert_eq!(spec["containers"][0]["command"].as_array().unwrap().len(), 9);
}

#[test]
fn all_objects_of_a_file_are_patched_unless_one_is_named() {
    let patched = pods(&several(), &of_container("web", Pattern::MountedBinaries)).unwrap();
    let kinds: Vec<_> = documents(&patched.text).iter().map(|document| document["kind"].clone()).collect();
    assert_eq!(kinds, ["Service", "Deployment", "CronJob", "ConfigMap", "ConfigMap"]);
    assert_eq!(patched.text.matches("name: falco\n").count(), 2);
}

#[test]
fn falco_gets_the_workloads_user() {
    let text = plain_pod().replace(
        "      securityContext:\n        allow",
        "      securityContext:\n        runAsUser: 7\n        allow",
    );
    let pod = documents(&pods(&text, &request(Pattern::SidecarVolume)).unwrap().text).swap_remove(0);
    assert_eq!(pod["spec"]["containers"][1]["securityContext"]["runAsUser"], "7");

    let text = plain_task().replace("\"essential\": true", "\"user\": \"1000:1000\", \"essential\": true");
    let patched = task_definition(&text, &request(Pattern::SidecarVolume)).unwrap();
    let task: Json = serde_json::from_str(&patched.text).unwrap();
    assert_eq!(task["containerDefinitions"][1]["user"], "1000:1000");
    assert!(patched.notes.iter().any(|note| note.contains("VOLUME")), "{:?}", patched.notes);
    // Where creance attaches as root, Falco has to be root too.
    let patched = task_definition(&text, &request(Pattern::SidecarAttach)).unwrap();
    let task: Json = serde_json::from_str(&patched.text).unwrap();
    assert_eq!(task["containerDefinitions"][1].get("user"), None);
}

#[test]
fn what_is_unknown_is_asked_for() {
    let only_image = |words: Json| {
        let mut container = json!({"name": "web", "image": "web:1"});
        container.as_object_mut().unwrap().extend(words.as_object().unwrap().clone());
        json!({"family": "shop", "containerDefinitions": [container]}).to_string()
    };
    let mut asked = request(Pattern::MountedBinaries);
    let refusal = task_definition(&only_image(json!({})), &asked).unwrap_err();
    assert!(refusal.message.contains("--entrypoint '...' --command '...'"), "{refusal}");
    let refusal = task_definition(&only_image(json!({"command": ["serve"]})), &asked).unwrap_err();
    assert!(refusal.message.contains("--entrypoint") && !refusal.message.contains("--command"), "{refusal}");
    // The entry point of the file has dropped the image's command already.
    assert!(task_definition(&only_image(json!({"entryPoint": ["web"]})), &asked).is_ok());

    asked.entrypoint = Some(vec!["entry".into()]);
    let refusal = task_definition(&only_image(json!({"entryPoint": ["web"]})), &asked).unwrap_err();
    assert!(refusal.message.contains("leave out --entrypoint"), "{refusal}");
    let refusal = task_definition(&only_image(json!({})), &asked).unwrap_err();
    assert!(refusal.message.contains("--command"), "{refusal}");
    asked.command = Some(vec!["serve".into()]);
    let task: Json =
        serde_json::from_str(&task_definition(&only_image(json!({})), &asked).unwrap().text).unwrap();
    assert_eq!(task["containerDefinitions"][0]["entryPoint"][7], "entry");
    assert_eq!(task["containerDefinitions"][0]["command"], json!(["serve"]));
    (asked.entrypoint, asked.command) = (Some(Vec::new()), Some(Vec::new()));
    let refusal = task_definition(&only_image(json!({})), &asked).unwrap_err();
    assert!(refusal.message.contains("nothing to run"), "{refusal}");

    for (pattern, flag) in [
        (Pattern::SidecarVolume, "--workload-image"),
        (Pattern::MountedBinaries, "--image-prefix"),
        (Pattern::SidecarAttach, "--image-prefix"),
    ] {
        let refusal = task_definition(&plain_task(), &Request::new(pattern)).unwrap_err();
        assert!(refusal.message.contains(flag), "{refusal}");
    }
}

#[test]
fn a_pattern_that_makes_no_sense_names_those_that_do() {
    let refusal = task_definition(&plain_task(), &request(Pattern::SidecarPtrace)).unwrap_err();
    assert!(
        refusal.message.contains("sidecarvolume") && refusal.message.contains("sidecarattach"),
        "{refusal}"
    );
    let refusal = pods(&plain_pod(), &request(Pattern::SidecarAttach)).unwrap_err();
    assert!(
        refusal.message.contains("sidecarvolume") && refusal.message.contains("mountedbinaries"),
        "{refusal}"
    );
}

#[test]
fn what_describe_task_definition_gives_is_taken() {
    let mut task: Map<String, Json> = serde_json::from_str(&plain_task()).unwrap();
    for key in [
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
    ] {
        task.insert(key.into(), json!([{"name": "value"}]));
    }
    let described = json!({"tags": [{"key": "team", "value": "shop"}], "taskDefinition": task});
    let asked = request(Pattern::MountedBinaries);
    let expected = task_definition(&plain_task(), &asked).unwrap();
    let mut expected: Json = serde_json::from_str(&expected.text).unwrap();
    expected["tags"] = described["tags"].clone();
    for text in [format!("{described:#}\n"), described.to_string()] {
        let patched = task_definition(&text, &asked).unwrap();
        assert_eq!(serde_json::from_str::<Json>(&patched.text).unwrap(), expected);
        assert!(patched.notes.iter().any(|note| note.contains("registeredBy")), "{:?}", patched.notes);
        assert!(!patched.text.contains("\n    \"family\""), "{}", patched.text);
    }
}

#[test]
fn what_cannot_be_edited_safely_is_refused_with_its_place() {
    let head = "kind: Pod\nmetadata: {name: x}\nspec:\n";
    let cases = [
        ("  containers: [{name: web, image: i, command: [web]}]\n", (4, 15)),
        ("  containers:\n    - &web\n      name: web\n      image: i\n      command: [web]\n", (5, 7)),
        ("  containers:\n    - {name: web, image: i, command: [web]}\n", (5, 7)),
        ("  containers:\n    - name: web\n      image: i\n      command: &run [web]\n", (7, 16)),
        ("  containers:\n    - name: web\n      image: i\n      command: web\n", (7, 16)),
        ("  containers:\n    - name: web\n      image: i\n      command: [web]\n      <<: *no\n", (8, 11)),
        ("  containers:\n    - name: web\n      command: [web]\n      command: [web]\n", (7, 7)),
        ("  volumes: []\n  containers:\n    - name: web\n      command: [web]\n", (4, 12)),
        ("  containers:\n    - name: web\n\tcommand: [web]\n", (5, 13)),
        ("  containers: none\n", (4, 3)),
    ];
    for (spec, place) in cases {
        let text = format!("{head}{spec}");
        let refusal = pods(&text, &request(Pattern::MountedBinaries)).unwrap_err();
        let before = &text[..refusal.at.unwrap_or_else(|| panic!("{refusal}: {spec}"))];
        let line = before.matches('\n').count() + 1;
        assert_eq!((line, before.rsplit('\n').next().unwrap().len() + 1), place, "{refusal}: {spec}");
    }
    let anchored = "kind: Pod\nmetadata: {name: x}\nspec: &a\n  containers: []\nother: *a\n";
    assert!(pods(anchored, &request(Pattern::MountedBinaries)).unwrap_err().message.contains("anchor"));
    assert!(
        pods("kind: Service\n", &request(Pattern::MountedBinaries))
            .unwrap_err()
            .message
            .contains("Deployment")
    );
    assert!(
        pods("kind: List\nitems: []\n", &request(Pattern::MountedBinaries))
            .unwrap_err()
            .message
            .contains("---")
    );
    let twice = r#"{"containerDefinitions": [{"name": "web", "entryPoint": ["a"], "entryPoint": ["b"]}]}"#;
    let refusal = task_definition(twice, &request(Pattern::MountedBinaries)).unwrap_err();
    assert_eq!((refusal.at, refusal.message.starts_with("entryPoint")), (twice.rfind("\"entryPoint"), true));
    let twice = r#"{"taskDefinition": {"revision": 1, "revision": 2, "containerDefinitions": []}}"#;
    let refusal = task_definition(twice, &request(Pattern::MountedBinaries)).unwrap_err();
    assert_eq!((refusal.at, refusal.message.starts_with("revision")), (twice.rfind("\"revision"), true));
    for text in ["", "[]", "{}", "{\"containerDefinitions\": {}}", "nonsense"] {
        assert!(task_definition(text, &request(Pattern::MountedBinaries)).is_err(), "{text}");
    }
}

#[test]
fn names_that_are_taken_are_refused() {
    let task = json!({"family": "shop", "containerDefinitions": [
        {"name": "web", "image": "i", "entryPoint": ["web"]}, {"name": "falco", "image": "i"},
    ]});
    let refusal =
        task_definition(&task.to_string(), &of_container("web", Pattern::SidecarVolume)).unwrap_err();
    assert!(refusal.message.contains("rename"), "{refusal}");
    let text = plain_pod().replace("name: home\n      emptyDir", "name: creance-link\n      emptyDir");
    assert_ne!(text, plain_pod());
    assert!(pods(&text, &request(Pattern::SidecarPtrace)).is_err());
}

#[test]
fn windows_line_ends_stay() {
    let text = plain_pod().replace('\n', "\r\n");
    let patched = pods(&text, &request(Pattern::SidecarVolume)).unwrap().text;
    assert_eq!(patched.matches('\n').count(), patched.matches("\r\n").count());
    assert_eq!(
        patched.replace("\r\n", "\n"),
        pods(&plain_pod(), &request(Pattern::SidecarVolume)).unwrap().text
    );
}

/// A change of a text: where, how much is taken out, and what comes there.
fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let pieces = prop::sample::select(vec![
        "", " ", "\n", "\t", ":", "- ", "{", "}", "[", "]", "\"", "'", ",", "&a ", "*a", "!!str ", "|\n",
        "<<: ", "ü", "---\n", "#", "name: ", "\r", "null", "  ",
    ]);
    vec((any::<prop::sample::Index>(), 0_usize..12, pieces.prop_map(String::from)), 1..5)
}

fn mutated(text: &str, mutations: &[(prop::sample::Index, usize, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (index, removed, inserted) in mutations {
        let at = index.index(characters.len() + 1);
        let end = (at + removed).min(characters.len());
        characters.splice(at..end, inserted.chars());
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_mistake_in_a_file_makes_it_panic_and_what_is_patched_stays_patched(
        change in mutations(), pattern in prop::sample::select(TASKS.into_iter().chain(PODS).collect::<Vec<_>>()),
    ) {
        let asked = of_container("web", pattern);
        for (text, patch) in [
            (plain_task(), task_definition as fn(&str, &Request) -> Result<Patched, Refusal>),
            (plain_pod(), pods),
            (several(), pods),
        ] {
            let text = mutated(&text.replace("name: workload", "name: web").replace("\"workload\"", "\"web\""), &change);
            match patch(&text, &asked) {
                Ok(patched) => {
                    let again = patch(&patched.text, &asked).unwrap();
                    prop_assert!(!again.is_changed && again.text == patched.text);
                }
                Err(refusal) => prop_assert!(refusal.at.is_none_or(|at| text.get(at..).is_some())),
            }
        }
    }
}
