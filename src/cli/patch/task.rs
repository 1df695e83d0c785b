//! Adds creance to a task definition of ECS.
//!
//! It reads what `register-task-definition` takes and what `describe-task-definition` gives. The container definitions that
//! it writes are those of `taskdefinitions/`.

use super::{
    Keys, LINK, LINK_VOLUME, MEMORY, Patched, Pattern, Refusal, Request, chosen,
    edit::{Json, line_start, quoted},
    is_unambiguous, one_only, other_pattern,
    tree::{Tree, Value},
    unknown_user, words,
};

/// What `describe-task-definition` tells and `register-task-definition` refuses.
const READ_ONLY: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];
const KEYS: Keys = Keys { entrypoint: "entryPoint", command: "command" };
/// The names of our own containers.
const OWN: [&str; 3] = ["falco", "binaries", "attach"];
/// What is read of nothing.
const LISTS: [&str; 4] = ["dependsOn", "volumesFrom", "mountPoints", "volumes"];

/// Adds creance to a task definition, a JSON text.
///
/// # Errors
/// Why it cannot be added, and what to do. The place is missing where the text is what `describe-task-definition` gave.
pub fn task_definition(text: &str, request: &Request) -> Result<Patched, Refusal> {
    if request.pattern == Pattern::SidecarPtrace {
        return Err(Refusal::of_all(
            "sidecarptrace is for pods, since the containers of an ECS task share no IPC: for a task definition there \
             are embeddedbinaries, mountedbinaries, sidecarvolume and sidecarattach"
                .into(),
        ));
    }
    if request.object.is_some() {
        return Err(Refusal::of_all("--object is for files of Kubernetes".into()));
    }
    let mut notes = Vec::new();
    let plain = registrable(text, &mut notes)?;
    let place = |refusal: Refusal| if plain == text { refusal } else { Refusal { at: None, ..refusal } };
    let added = add(&plain, request, &mut notes).map_err(place)?;
    let Some(added) = added else {
        let is_changed = plain != text;
        return Ok(Patched { text: plain, notes, is_changed });
    };
    // What was written has to be what will be found.
    if add(&added, request, &mut Vec::new()) != Ok(None) {
        return Err(Refusal::of_all("this was not understood well enough to be changed".into()));
    }
    Ok(Patched { text: added, notes, is_changed: true })
}

/// The text as it can be registered.
fn registrable(text: &str, notes: &mut Vec<String>) -> Result<String, Refusal> {
    let tree = Tree::json(text)?;
    let root = root(&tree)?;
    let mut plain = text.to_owned();
    is_unambiguous(root)?;
    // What can be registered has its containers at the top.
    let wrapped = root.get("taskDefinition").filter(|inner| inner.is_mapping());
    if let Some(inner) = wrapped.filter(|_| root.get("containerDefinitions").is_none()) {
        is_unambiguous(inner)?;
        plain = unwrapped(text, inner);
        let mut note = String::from(
            "this is what describe-task-definition gives: what stands in taskDefinition was taken",
        );
        if let Some(tags) = root.get("tags").filter(|tags| tags.items().next().is_some()) {
            let tags = text.get(tags.start()..tags.end()).unwrap_or("[]");
            let tree = Tree::json(&plain)?;
            let mut edits = Json::new(&plain);
            let tags: serde_json::Value = serde_json::from_str(tags).unwrap_or_default();
            edits.add_entry(self::root(&tree)?, &[], &format!("\"tags\": {tags:#}"));
            plain = edits.apply()?;
            note.push_str(", with the tags beside it");
        }
        notes.push(note);
    }
    let mut removed = Vec::new();
    for name in READ_ONLY {
        let tree = Tree::json(&plain)?;
        let root = self::root(&tree)?;
        if root.get(name).is_some() {
            let mut edits = Json::new(&plain);
            edits.remove(root, name);
            let fewer = edits.apply()?;
            plain = fewer;
            removed.push(name);
        }
    }
    if !removed.is_empty() {
        notes.push(format!("removed what register-task-definition refuses: {}", removed.join(", ")));
    }
    Ok(plain)
}

fn root(tree: &Tree) -> Result<Value<'_>, Refusal> {
    let root = tree.documents().next().filter(|root| root.is_mapping());
    root.ok_or_else(|| Refusal::of_all("this is no task definition: it is no JSON object".into()))
}

/// The text of a value, less the indentation of its line.
fn unwrapped(text: &str, value: Value<'_>) -> String {
    let line = text.get(line_start(text, value.start())..value.start()).unwrap_or("");
    let blanks = line.get(..line.len() - line.trim_start().len()).unwrap_or("");
    let inner = text.get(value.start()..value.end()).unwrap_or("");
    let lines: Vec<_> = inner.split('\n').map(|line| line.strip_prefix(blanks).unwrap_or(line)).collect();
    lines.join("\n") + if text.ends_with('\n') { "\n" } else { "" }
}

/// The text with creance in it; nothing if it is there.
fn add(text: &str, request: &Request, notes: &mut Vec<String>) -> Result<Option<String>, Refusal> {
    let tree = Tree::json(text)?;
    let root = root(&tree)?;
    let containers = root.get("containerDefinitions").filter(|list| list.is_list()).ok_or_else(|| {
        Refusal::at(root.start(), "this is no task definition: it has no list of containerDefinitions".into())
    })?;
    let found = pattern_of(root, containers);
    if let Some(found) = found.filter(|&found| found != request.pattern) {
        return Err(other_pattern(found, request.pattern));
    }
    let own: &[&str] = if found.is_some() { &OWN } else { &[] };
    let workload = chosen(containers, request.container.as_deref(), own)?;
    if found.is_some() && is_watched(workload, request.pattern) {
        return Ok(None);
    }
    let task = Task { text, root, containers, workload, request, is_first: found.is_none() };
    task.is_editable()?;
    task.add(notes).map(Some)
}

/// The pattern that a task definition has in it.
fn pattern_of(root: Value<'_>, containers: Value<'_>) -> Option<Pattern> {
    root.get("volumes")?.named(LINK_VOLUME)?;
    let is_mounted = |item: Value<'_>| {
        item.get("entryPoint")
            .and_then(Value::words)
            .is_some_and(|words| words.first() == Some(&"/creance/creance"))
    };
    Some(if containers.named("attach").is_some() && root.word("pidMode") == "task" {
        Pattern::SidecarAttach
    } else if containers.items().any(is_mounted) {
        Pattern::MountedBinaries
    } else if containers.named("falco").is_some() {
        Pattern::SidecarVolume
    } else {
        Pattern::EmbeddedBinaries
    })
}

/// Whether creance watches a container of a task that has a pattern in it.
fn is_watched(container: Value<'_>, pattern: Pattern) -> bool {
    let has = |list: &str, key: &str, word: &str| {
        container.get(list).is_some_and(|list| list.items().any(|item| item.word(key) == word))
    };
    match pattern {
        Pattern::SidecarAttach => has("dependsOn", "containerName", "attach"),
        _ => has("mountPoints", "sourceVolume", LINK_VOLUME),
    }
}

struct Task<'a> {
    text: &'a str,
    root: Value<'a>,
    containers: Value<'a>,
    workload: Value<'a>,
    request: &'a Request,
    /// Whether nothing of the pattern is there yet.
    is_first: bool,
}

impl Task<'_> {
    /// # Errors
    /// What stands in the way of the pattern.
    fn is_editable(&self) -> Result<(), Refusal> {
        let pattern = self.request.pattern;
        is_unambiguous(self.root)?;
        is_unambiguous(self.workload)?;
        if !self.is_first && matches!(pattern, Pattern::EmbeddedBinaries | Pattern::SidecarAttach) {
            return Err(one_only(pattern));
        }
        for name in OWN.iter().filter(|_| self.is_first) {
            if let Some(other) = self.containers.named(name) {
                let message =
                    format!("there is a container {name} already, as one of creance's is called: rename it");
                return Err(Refusal::at(other.start(), message));
            }
        }
        for (place, key) in LISTS.iter().flat_map(|&key| [(self.root, key), (self.workload, key)]) {
            if let Some(value) = place.get(key).filter(|value| !value.is_list()) {
                return Err(Refusal::at(value.start(), format!("{key} is no list")));
            }
        }
        let system = self.root.find(&["runtimePlatform", "operatingSystemFamily"]);
        if let Some(system) = system.filter(|system| system.text() != Some("LINUX")) {
            return Err(Refusal::at(system.start(), "creance runs on Linux only".into()));
        }
        if let Some(mode) = self.root.get("pidMode").filter(|mode| mode.text() != Some("task"))
            && pattern == Pattern::SidecarAttach
        {
            return Err(Refusal::at(mode.start(), "sidecarattach needs the pidMode task".into()));
        }
        Ok(())
    }

    /// The containers beside the workload's.
    const fn sidecars(&self) -> &'static [&'static str] {
        match self.request.pattern {
            Pattern::EmbeddedBinaries => &[],
            Pattern::MountedBinaries => &["binaries", "falco"],
            Pattern::SidecarAttach => &["falco", "attach"],
            _ => &["falco"],
        }
    }

    fn add(&self, notes: &mut Vec<String>) -> Result<String, Refusal> {
        let mut edits = Json::new(self.text);
        let image = self.request.workload_image()?;
        self.refuse_other_link()?;
        if let Some(image) = image {
            match self.workload.get("image") {
                Some(old) => edits.replace(old, quoted(image)),
                None => edits.add_entry(self.workload, &["name"], &format!("\"image\": {}", quoted(image))),
            }
        }
        if self.request.pattern == Pattern::SidecarAttach {
            self.add_dependencies(&mut edits, &["attach"]);
        } else {
            self.wrap(&mut edits)?;
        }
        if self.is_first {
            self.add_shared(&mut edits, notes)?;
        }
        self.tell(notes);
        edits.apply()
    }

    /// # Errors
    /// Something else that is mounted where the link is to be.
    fn refuse_other_link(&self) -> Result<(), Refusal> {
        let mounts = self.workload.get("mountPoints");
        match mounts.and_then(|mounts| mounts.items().find(|mount| mount.word("containerPath") == LINK)) {
            Some(other) => {
                Err(Refusal::at(other.start(), format!("another volume is mounted at {LINK}: move it")))
            }
            None => Ok(()),
        }
    }

    /// Puts creance in front of the workload.
    fn wrap(&self, edits: &mut Json<'_>) -> Result<(), Refusal> {
        let words = words(self.workload, KEYS, self.request)?;
        let place = ["essential", "image", "name"];
        match self.workload.get(KEYS.entrypoint) {
            Some(list) => edits.prepend(list, &words.entrypoint),
            None => edits.add_entry(
                self.workload,
                &place,
                &entry(KEYS.entrypoint, &quoted_list(&words.entrypoint)),
            ),
        }
        if let Some(command) = &words.command {
            let after: Vec<_> = [KEYS.entrypoint].into_iter().chain(place).collect();
            match self.workload.get(KEYS.command) {
                Some(list) => edits.prepend(list, command),
                None => edits.add_entry(self.workload, &after, &entry(KEYS.command, &quoted_list(command))),
            }
        }
        if self.request.pattern != Pattern::EmbeddedBinaries {
            self.add_dependencies(edits, self.sidecars());
        }
        if self.request.pattern == Pattern::MountedBinaries {
            let source = object(&[entry("sourceContainer", "\"binaries\""), entry("readOnly", "true")]);
            extend(edits, self.workload, "volumesFrom", &[source]);
        }
        extend(edits, self.workload, "mountPoints", &[mount()]);
        Ok(())
    }

    fn add_dependencies(&self, edits: &mut Json<'_>, names: &[&str]) {
        let needed = names
            .iter()
            .map(|name| object(&[entry("containerName", &quoted(name)), entry("condition", "\"START\"")]));
        extend(edits, self.workload, "dependsOn", &needed.collect::<Vec<_>>());
    }

    /// Adds what all containers of the task share.
    fn add_shared(&self, edits: &mut Json<'_>, notes: &mut Vec<String>) -> Result<(), Refusal> {
        let sidecars = self.sidecars().iter().map(|&name| match name {
            "binaries" => self.binaries(),
            "attach" => self.attach(notes),
            _ => self.falco(),
        });
        let sidecars = sidecars.collect::<Result<Vec<_>, _>>()?;
        if !sidecars.is_empty() {
            edits.append(self.containers, &sidecars);
        }
        if self.request.pattern == Pattern::SidecarAttach && self.root.get("pidMode").is_none() {
            edits.add_entry(self.root, &["networkMode", "family"], &entry("pidMode", "\"task\""));
        }
        extend(edits, self.root, "volumes", &[object(&[entry("name", &quoted(LINK_VOLUME))])]);
        Ok(())
    }

    fn falco(&self) -> Result<String, Refusal> {
        let mut entries = self.sidecar("falco", &self.request.image("falco")?, true);
        // What attaches is root, and so is who may open its link.
        let user = self.workload.get("user").and_then(Value::text);
        if let Some(user) = user.filter(|_| self.request.pattern != Pattern::SidecarAttach) {
            entries.push(entry("user", &quoted(user)));
        }
        entries.push(capabilities("drop", "ALL"));
        entries.push(entry("mountPoints", &list(&[mount()])));
        entries.extend(self.log("falco"));
        Ok(object(&entries))
    }

    fn binaries(&self) -> Result<String, Refusal> {
        let mut entries = self.sidecar("binaries", &self.request.image("binaries")?, false);
        entries.push(capabilities("drop", "ALL"));
        entries.extend(self.log("binaries"));
        Ok(object(&entries))
    }

    fn attach(&self, notes: &mut Vec<String>) -> Result<String, Refusal> {
        let mut entries = self.sidecar("attach", &self.request.image("sidecarattach")?, true);
        let name = self.workload.word("name");
        let mut command =
            vec![self.program(notes)?, "--link".into(), LINK.into(), "--container-name".into(), name.into()];
        command.extend(["--container-image".into(), self.workload.word("image").into()]);
        entries.push(entry("command", &quoted_list(&command)));
        let needed = object(&[entry("containerName", "\"falco\""), entry("condition", "\"START\"")]);
        entries.push(entry("dependsOn", &list(&[needed])));
        entries.push(capabilities("add", "SYS_PTRACE"));
        entries.push(entry("mountPoints", &list(&[mount()])));
        entries.extend(self.log("attach"));
        Ok(object(&entries))
    }

    /// The name of the program that is attached to.
    fn program(&self, notes: &mut Vec<String>) -> Result<String, Refusal> {
        if let Some(program) = &self.request.program {
            return Ok(program.clone());
        }
        let words = self.workload.get(KEYS.entrypoint).and_then(Value::words).unwrap_or_default();
        let first = words.first().map(|word| word.rsplit('/').next().unwrap_or(word));
        let name = first.filter(|name| !name.is_empty()).ok_or_else(|| {
            Refusal::at(
                self.workload.start(),
                format!(
                    "the container {} does not say which program it runs: give the name of its first program or \
                     script, without the directory, as --program",
                    self.workload.word("name")
                ),
            )
        })?;
        notes.push(format!(
            "creance attaches to {name}: if that only starts another program, give its name as --program"
        ));
        Ok(name.into())
    }

    /// The entries that all containers of ours have.
    fn sidecar(&self, name: &str, image: &str, is_restarted: bool) -> Vec<String> {
        let mut entries =
            vec![entry("name", &quoted(name)), entry("image", &quoted(image)), entry("essential", "false")];
        if is_restarted {
            let policy = object(&[entry("enabled", "true"), entry("restartAttemptPeriod", "60")]);
            entries.push(entry("restartPolicy", &policy));
        }
        entries.push(entry("readonlyRootFilesystem", "true"));
        entries
    }

    /// Where the log of a sidecar goes: where the workload's does.
    fn log(&self, name: &str) -> Option<String> {
        let log = self.workload.get("logConfiguration")?;
        if log.word("logDriver") != "awslogs" {
            let value = self.text.get(log.start()..log.end())?;
            let value: serde_json::Value = serde_json::from_str(value).ok()?;
            return Some(entry("logConfiguration", &format!("{value:#}")));
        }
        let options = log.get("options")?;
        let kept = ["awslogs-group", "awslogs-region", "awslogs-create-group"];
        let mut entries: Vec<_> =
            kept.iter().filter_map(|key| Some(entry(key, &quoted(options.get(key)?.text()?)))).collect();
        entries.push(entry("awslogs-stream-prefix", &quoted(name)));
        // A log that is not taken would stall Falco, and then the workload.
        entries.push(entry("mode", "\"non-blocking\""));
        entries.push(entry("max-buffer-size", "\"25m\""));
        let log = object(&[entry("logDriver", "\"awslogs\""), entry("options", &object(&entries))]);
        Some(entry("logConfiguration", &log))
    }

    fn tell(&self, notes: &mut Vec<String>) {
        if self.is_first {
            notes.push(MEMORY.into());
        }
        let user = self.workload.get("user").and_then(Value::text);
        match user {
            _ if matches!(self.request.pattern, Pattern::EmbeddedBinaries | Pattern::SidecarAttach) => {}
            None => notes.push(unknown_user("user")),
            Some("0" | "root" | "0:0" | "root:root") => {}
            Some(user) => notes.push(format!(
                "an empty volume of ECS belongs to root: so that {user} may use it the workload's image has to have the \
                 directory {LINK}, of that user, and to name it as a VOLUME"
            )),
        }
        if self
            .workload
            .find(&["linuxParameters", "initProcessEnabled"])
            .is_some_and(|init| self.text.get(init.start()..init.end()) == Some("true"))
        {
            notes.push("initProcessEnabled puts another program before creance, which is an init itself: take it out".into());
        }
        if self.workload.get("logConfiguration").is_none() {
            notes.push("the workload has no logConfiguration, so that Falco's container has none either: give it one, \
                 since alerts are lines of its standard output".into());
        }
    }
}

/// Adds items to a list that may not be there.
fn extend(edits: &mut Json<'_>, object: Value<'_>, key: &str, items: &[String]) {
    match object.get(key) {
        Some(list) => edits.append(list, items),
        None => edits.add_entry(object, &[], &entry(key, &list(items))),
    }
}

fn mount() -> String {
    object(&[
        entry("sourceVolume", &quoted(LINK_VOLUME)),
        entry("containerPath", &quoted(LINK)),
        entry("readOnly", "false"),
    ])
}

fn capabilities(change: &str, name: &str) -> String {
    let changes = object(&[entry(change, &list(&[quoted(name)]))]);
    entry("linuxParameters", &object(&[entry("capabilities", &changes)]))
}

fn quoted_list(words: &[String]) -> String {
    list(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>())
}

fn entry(key: &str, value: &str) -> String {
    format!("{}: {value}", quoted(key))
}

fn object(entries: &[String]) -> String {
    bracketed('{', entries, '}')
}

fn list(items: &[String]) -> String {
    bracketed('[', items, ']')
}

fn bracketed(open: char, parts: &[String], close: char) -> String {
    let parts: Vec<_> = parts.iter().map(|part| format!("  {}", part.replace('\n', "\n  "))).collect();
    format!("{open}\n{}\n{close}", parts.join(",\n"))
}
