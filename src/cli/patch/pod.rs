//! Adds creance to workloads of Kubernetes: pods, and what makes pods.
//!
//! A file may hold several documents; those that make no pods stay as they are. What is written is what `podspecs/` has. In a
//! job Falco is an init container that goes on (`restartPolicy: Always`), since a job ends only when its containers have.

use super::{
    Keys, LINK, LINK_VOLUME, MEMORY, Patched, Pattern, Refusal, Request, chosen,
    edit::{Yaml, plain_or_quoted},
    is_unambiguous, one_only, other_pattern,
    tree::{Tree, Value},
    unknown_user, words,
};

/// The directory of the link where IPC is shared.
pub(super) const SHARED_LINK: &str = "/dev/shm/creance";

const KEYS: Keys = Keys { entrypoint: "command", command: "args" };
/// The volume of the binaries, and the container that fills it.
const BINARIES: &str = "creance-binaries";
/// The volume of Falco's configuration.
const CONFIGURATION: &str = "creance-configuration";
const FALCO: &str = "falco";

/// The kinds that make pods, and where in them the pod is.
const KINDS: [(&str, &[&str]); 8] = [
    ("Pod", &["spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];

/// Adds creance to all that makes pods in a YAML text of Kubernetes.
///
/// # Errors
/// Why it cannot be added, and what to do.
pub fn pods(text: &str, request: &Request) -> Result<Patched, Refusal> {
    if request.pattern == Pattern::SidecarAttach {
        return Err(Refusal::of_all(
            "sidecarattach needs the capability SYS_PTRACE, which EKS on Fargate lets no pod have: for a pod there are \
             embeddedbinaries, mountedbinaries, sidecarptrace and sidecarvolume"
                .into(),
        ));
    }
    if request.program.is_some() {
        return Err(Refusal::of_all("--program is for sidecarattach, which is for task definitions".into()));
    }
    let mut notes = Vec::new();
    let whole = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let place = |refusal: Refusal| Refusal { at: refusal.at.map(|at| at.min(text.len())), ..refusal };
    let Some(added) = add(&whole, request, &mut notes).map_err(place)? else {
        return Ok(Patched { text: text.to_owned(), notes, is_changed: false });
    };
    // What was written has to be what will be found.
    if add(&added, request, &mut Vec::new()) != Ok(None) {
        return Err(Refusal::of_all(
            "this was not understood well enough to be changed: write it more plainly".into(),
        ));
    }
    notes.sort();
    notes.dedup();
    Ok(Patched { text: added, notes, is_changed: true })
}

/// The text with creance in all its pods; nothing if it is there.
fn add(text: &str, request: &Request, notes: &mut Vec<String>) -> Result<Option<String>, Refusal> {
    let tree = Tree::yaml(text)?;
    let mut edits = Yaml::new(text);
    let (mut has_pod, mut is_changed) = (false, false);
    for document in tree.documents() {
        let kind = document.word("kind");
        if kind == "List" || kind.ends_with("List") && document.get("items").is_some() {
            let message =
                "a list of objects: write each as a document of its own, with a line --- between them";
            return Err(Refusal::at(document.start(), message.into()));
        }
        let Some((_, path)) = KINDS.iter().find(|(known, _)| *known == kind) else { continue };
        let name = document.find(&["metadata", "name"]).and_then(Value::text).unwrap_or("");
        if request.object.as_deref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        has_pod = true;
        let pod = Pod { document, name, is_job: kind.ends_with("Job"), spec: spec(document, path)?, request };
        is_changed |= pod.add(&mut edits, notes)?;
    }
    if !has_pod {
        let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
        let of = request.object.as_deref().map_or_else(String::new, |name| format!(" called {name}"));
        return Err(Refusal::of_all(format!("it has no object{of} that makes pods: {}", kinds.join(", "))));
    }
    if is_changed { edits.apply().map(Some) } else { Ok(None) }
}

/// The pod in a document, to which nothing leads that could mean other places too.
fn spec<'a>(document: Value<'a>, path: &[&str]) -> Result<Value<'a>, Refusal> {
    let mut value = document;
    for key in path {
        is_unambiguous(value)?;
        value = value.get(key).filter(|value| value.is_mapping()).ok_or_else(|| {
            Refusal::at(value.start(), format!("there is no mapping {key} here, as its kind wants"))
        })?;
        if value.has_properties() {
            let message = "an anchor, an alias or a tag, which may mean other places too: write it out";
            return Err(Refusal::at(value.start(), message.into()));
        }
    }
    Ok(value)
}

struct Pod<'a> {
    document: Value<'a>,
    name: &'a str,
    is_job: bool,
    spec: Value<'a>,
    request: &'a Request,
}

impl<'a> Pod<'a> {
    /// Adds creance; tells whether that has changed anything.
    fn add(&self, edits: &mut Yaml<'_>, notes: &mut Vec<String>) -> Result<bool, Refusal> {
        is_unambiguous(self.spec)?;
        let containers = self.spec.get("containers").filter(|list| list.is_list()).ok_or_else(|| {
            Refusal::at(self.spec.start(), "there is no list of containers in this pod".into())
        })?;
        let found = self.pattern();
        if let Some(found) = found.filter(|&found| found != self.request.pattern) {
            return Err(other_pattern(found, self.request.pattern));
        }
        let own: &[&str] = if found.is_some() { &[FALCO] } else { &[] };
        let workload = chosen(containers, self.request.container.as_deref(), own)?;
        if found.is_some() && self.is_watched(workload) {
            return Ok(false);
        }
        if found == Some(Pattern::EmbeddedBinaries) {
            return Err(one_only(Pattern::EmbeddedBinaries));
        }
        if found.is_none() {
            self.refuse_taken_names(containers)?;
        }
        self.wrap(workload, edits)?;
        if found.is_none() {
            self.add_shared(containers, workload, edits)?;
            self.tell(workload, notes);
        }
        Ok(true)
    }

    /// The pattern that the pod has in it.
    fn pattern(&self) -> Option<Pattern> {
        let has = |list: &str, name: &str| self.spec.get(list).is_some_and(|list| list.named(name).is_some());
        let has_falco = has("containers", FALCO) || has("initContainers", FALCO);
        if has("volumes", BINARIES) {
            Some(Pattern::MountedBinaries)
        } else if has("volumes", LINK_VOLUME) {
            Some(if has_falco { Pattern::SidecarVolume } else { Pattern::EmbeddedBinaries })
        } else {
            (has_falco && has("volumes", CONFIGURATION)).then_some(Pattern::SidecarPtrace)
        }
    }

    /// Whether creance watches a container of a pod that has the pattern in it.
    fn is_watched(&self, container: Value<'_>) -> bool {
        match self.request.pattern {
            Pattern::SidecarPtrace => ["command", "args"].iter().any(|key| {
                container
                    .get(key)
                    .is_some_and(|list| list.items().any(|item| item.text() == Some(SHARED_LINK)))
            }),
            _ => container.get("volumeMounts").is_some_and(|mounts| mounts.named(LINK_VOLUME).is_some()),
        }
    }

    /// # Errors
    /// Names of ours that others have.
    fn refuse_taken_names(&self, containers: Value<'_>) -> Result<(), Refusal> {
        let volumes = [LINK_VOLUME, BINARIES, CONFIGURATION];
        let lists = [
            (Some(containers), &[FALCO][..]),
            (self.spec.get("initContainers"), &[FALCO, BINARIES][..]),
            (self.spec.get("volumes"), &volumes[..]),
        ];
        for (list, names) in lists {
            for name in names {
                if let Some(other) = list.and_then(|list| list.named(name)) {
                    return Err(Refusal::at(
                        other.start(),
                        format!("this is called {name}, as what creance adds: rename it"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Puts creance in front of the workload.
    fn wrap(&self, workload: Value<'_>, edits: &mut Yaml<'_>) -> Result<(), Refusal> {
        is_unambiguous(workload)?;
        if let Some(image) = self.request.workload_image()? {
            match workload.get("image") {
                Some(old) => edits.replace(old, image)?,
                None => {
                    edits.add_entry(workload, &["name"], &format!("image: {}", plain_or_quoted(image)))?
                }
            }
        }
        let words = words(workload, KEYS, self.request)?;
        let place = ["image", "name"];
        match workload.get(KEYS.entrypoint) {
            Some(list) => edits.prepend(list, &words.entrypoint)?,
            None => edits.add_entry(workload, &place, &flow(KEYS.entrypoint, &words.entrypoint))?,
        }
        if let Some(command) = &words.command {
            match workload.get(KEYS.command) {
                Some(list) => edits.prepend(list, command)?,
                None => {
                    let after: Vec<_> = [KEYS.entrypoint].into_iter().chain(place).collect();
                    edits.add_entry(workload, &after, &flow(KEYS.command, command))?;
                }
            }
        }
        let mut mounts = Vec::new();
        if self.request.pattern == Pattern::MountedBinaries {
            mounts.push(format!("- name: {BINARIES}\n  mountPath: /creance\n  readOnly: true"));
        }
        if self.request.pattern != Pattern::SidecarPtrace {
            mounts.push(format!("- name: {LINK_VOLUME}\n  mountPath: {LINK}"));
        }
        if let Some(list) = workload.get("volumeMounts") {
            let taken = |path: &str| list.items().find(|mount| mount.word("mountPath") == path);
            if let Some(other) = taken(LINK).or_else(|| taken("/creance")) {
                return Err(Refusal::at(
                    other.start(),
                    "another volume is mounted where creance's is to be: move it".into(),
                ));
            }
        }
        self.extend(edits, workload, "volumeMounts", &mounts)
    }

    /// Adds what all containers of the pod share.
    fn add_shared(
        &self,
        containers: Value<'_>,
        workload: Value<'_>,
        edits: &mut Yaml<'_>,
    ) -> Result<(), Refusal> {
        let pattern = self.request.pattern;
        let mut init = Vec::new();
        if pattern != Pattern::EmbeddedBinaries {
            let falco = self.falco(workload)?;
            if self.is_job { init.push(falco) } else { edits.append(containers, &falco)? }
        }
        if pattern == Pattern::MountedBinaries {
            init.push(self.binaries(workload)?);
        }
        self.extend(edits, self.spec, "initContainers", &init)?;
        let mut volumes = Vec::new();
        if pattern != Pattern::SidecarPtrace {
            volumes.push(format!("- name: {LINK_VOLUME}\n  emptyDir: {{}}"));
        }
        if pattern == Pattern::MountedBinaries {
            volumes.push(format!("- name: {BINARIES}\n  emptyDir: {{}}"));
        }
        if pattern != Pattern::EmbeddedBinaries {
            let name = plain_or_quoted(&self.configuration()?);
            volumes.push(format!("- name: {CONFIGURATION}\n  configMap:\n    name: {name}"));
            edits.add_document(&self.config_map()?);
        }
        self.extend(edits, self.spec, "volumes", &volumes)
    }

    /// Adds items to a list that may not be there.
    fn extend(
        &self,
        edits: &mut Yaml<'_>,
        mapping: Value<'_>,
        key: &str,
        items: &[String],
    ) -> Result<(), Refusal> {
        if items.is_empty() {
            return Ok(());
        }
        if let Some(list) = mapping.get(key) {
            return items.iter().try_for_each(|item| edits.append(list, item));
        }
        // As deep as in the list of containers, so that the file looks as if it were of one hand.
        let containers = self.spec.get("containers").unwrap_or(self.spec);
        let step = " ".repeat(edits.step(self.spec, containers)?);
        let lines = items.iter().flat_map(|item| item.lines()).map(|line| format!("{step}{line}"));
        let text = [format!("{key}:")].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
        edits.add_entry(mapping, &[], &text)
    }

    /// The name of the ConfigMap.
    fn configuration(&self) -> Result<String, Refusal> {
        if self.name.is_empty() {
            return Err(Refusal::at(self.document.start(), "it has no metadata.name: give it one".into()));
        }
        Ok(format!("{}-creance", self.name))
    }

    fn config_map(&self) -> Result<String, Refusal> {
        let mut text = format!(
            "# Falco's settings for {}, where they differ from those of its image.\napiVersion: v1\nkind: ConfigMap\n\
             metadata:\n  name: {}\n",
            // Nothing of a name ends a comment.
            self.name.replace(['\n', '\r'], " "),
            plain_or_quoted(&self.configuration()?)
        );
        if let Some(namespace) = self.document.find(&["metadata", "namespace"]).and_then(Value::text) {
            text.push_str(&format!("  namespace: {}\n", plain_or_quoted(namespace)));
        }
        text.push_str("data:\n");
        if self.request.pattern == Pattern::SidecarPtrace {
            text.push_str(PLUGIN);
        }
        text.push_str(PROBES);
        Ok(text.trim_end().into())
    }

    fn falco(&self, workload: Value<'_>) -> Result<String, Refusal> {
        let mut text =
            format!("- name: {FALCO}\n  image: {}\n", plain_or_quoted(&self.request.image("falco")?));
        if self.is_job {
            text.push_str(
                "  # A sidecar, which does not keep the job from ending.\n  restartPolicy: Always\n",
            );
        }
        text.push_str(&security(workload)?);
        text.push_str(RESOURCES);
        text.push_str(HEALTH);
        text.push_str("  volumeMounts:\n");
        if self.request.pattern != Pattern::SidecarPtrace {
            text.push_str(&format!("    - name: {LINK_VOLUME}\n      mountPath: {LINK}\n"));
        }
        let files: &[&str] = if self.request.pattern == Pattern::SidecarPtrace {
            &["creance.yaml", "probes.yaml"]
        } else {
            &["probes.yaml"]
        };
        for file in files {
            text.push_str(&format!(
                "    - name: {CONFIGURATION}\n      mountPath: /etc/falco/config.d/{file}\n      subPath: {file}\n      \
                 readOnly: true\n"
            ));
        }
        Ok(text.trim_end().into())
    }

    fn binaries(&self, workload: Value<'_>) -> Result<String, Refusal> {
        Ok(format!(
            "- name: {BINARIES}\n  image: {}\n  command: [/creance/creance, install, /shared]\n{}{INIT_RESOURCES}  \
             volumeMounts:\n    - name: {BINARIES}\n      mountPath: /shared",
            plain_or_quoted(&self.request.image("binaries")?),
            security(workload)?,
        ))
    }

    fn tell(&self, workload: Value<'a>, notes: &mut Vec<String>) {
        notes.push(MEMORY.into());
        if self.request.pattern == Pattern::EmbeddedBinaries {
            return;
        }
        let context = [workload, self.spec].map(|place| place.find(&["securityContext", "runAsUser"]));
        if context.iter().all(Option::is_none) {
            notes.push(unknown_user("securityContext.runAsUser"));
        }
        if self.is_job {
            notes.push("Falco is an init container that goes on, which Kubernetes knows from 1.29 on".into());
        }
    }
}

/// What the containers of ours may do; the user is the workload's own where the workload has one of its own.
fn security(workload: Value<'_>) -> Result<String, Refusal> {
    let mut text = String::from("  securityContext:\n");
    if let Some(context) = workload.get("securityContext") {
        if context.has_properties() || context.get("<<").is_some() {
            let message = "an anchor, an alias or a tag, which may mean other places too: write it out";
            return Err(Refusal::at(context.start(), message.into()));
        }
        for key in ["runAsNonRoot", "runAsUser", "runAsGroup"] {
            // A number or a truth: nothing that has to be quoted.
            let value = context.word(key);
            if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric()) {
                text.push_str(&format!("    {key}: {value}\n"));
            }
        }
    }
    text.push_str(
        "    allowPrivilegeEscalation: false\n    readOnlyRootFilesystem: true\n    capabilities:\n      drop: [ALL]\n",
    );
    Ok(text)
}

fn flow(key: &str, words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| plain_or_quoted(word)).collect();
    format!("{key}: [{}]", words.join(", "))
}

const RESOURCES: &str = "  resources:
    requests: {cpu: 125m, memory: 256Mi}
    limits: {memory: 256Mi}
";

const INIT_RESOURCES: &str = "  resources:
    requests: {cpu: 125m, memory: 64Mi}
    limits: {memory: 64Mi}
";

const HEALTH: &str = "  startupProbe:
    httpGet: {path: /healthz, port: 8765}
    periodSeconds: 2
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /healthz, port: 8765}
    periodSeconds: 15
";

const PLUGIN: &str = "  # In the place of the image's own file: only the directory of the link differs.
  creance.yaml: |
    engine:
      kind: nodriver
    plugins:
      - name: creance
        library_path: /usr/share/falco/plugins/libcreance.so
        open_params: /dev/shm/creance
    load_plugins: [creance]
    falco_libs:
      thread_table_auto_purging_thread_timeout_s: 31536000
";

const PROBES: &str = "  # Falco answers the probes of the kubelet.
  probes.yaml: |
    webserver:
      enabled: true
      listen_port: 8765
      k8s_healthz_endpoint: /healthz
";
