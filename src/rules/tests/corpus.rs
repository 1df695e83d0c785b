//! Rule files of our own, which make use of everything that the language has.

/// A file with every kind of entry.
pub(super) const WHOLE: &str = r#"
- required_engine_version: 0.57.0
- required_plugin_versions:
  - name: container
    version: 0.4.0
    alternatives: [{name: k8smeta, version: 0.1.0}]

# Lists, in lists.
- list: shells
  items: [bash, sh, 'zsh', "a shell"]
- list: tools
  items: [shells, curl, "wget"]
- list: nobody
  items: []

- macro: opens
  condition: evt.type in (open, openat) and evt.is_open_read=true
- macro: by_shell
  condition: >
    proc.name in (shells) or
    (proc.pname in (tools, nobody) and not proc.aname[2] startswith "kernel")
- macro: never
  condition: (evt.num = 0)

- rule: Secret read
  desc: Somebody reads a secret.
  condition: >
    opens and by_shell
    and fd.name startswith /etc/secrets
    and not never
  output: "Secret read (file=%fd.name by=%proc.cmdline)"
  priority: WARNING
  tags: [files, mitre]
  exceptions:
    - name: files
      fields: [proc.name, fd.name]
      comps: [=, startswith]
      values:
        - [backup, /etc/secrets/public]
        - ["my tool", "/etc/other"]
    - name: names
      fields: proc.name
      values: [vault, shells]
    - name: later
      fields: [proc.name, fd.directory]
      comps: [in, pmatch]

- rule: Connection
  desc: |
    Somebody talks.
  condition: evt.type = connect and fd.sip in ("10.0.0.1", "10.0.0.2") and fd.sport > 1023 or fd.name exists
  output: Connection (%fd.name)
  priority: info
  enabled: false
  source: syscall
  warn_evttypes: no
  skip-if-unknown-filter: yes
  capture: false
  capture_duration: 100
---
- list: shells
  items: [fish]
  override:
    items: append
- rule: Secret read
  exceptions:
    - name: later
      values:
        - [[a, b], [/x, /y]]
        - [shells, /z]
  override: {exceptions: append}
- rule: Connection
  enabled: true
  condition: and toupper(proc.name) = BASH
  override: {enabled: replace, condition: append}
- macro: opens
  condition: or evt.type = openat2
  append: true
"#;

/// Anchors, aliases, flow style, Windows line ends.
pub(super) const STRANGE: &str = "- {list: a, items: &items [x, y]}\r\n- {list: b, items: *items}\r\n\r\n\
    - macro: m\r\n  condition: proc.name in (a)\r\n\r\n- rule: r\r\n  desc: d\r\n  condition: m and proc.name in (b)\r\n\
    \x20 output: o\r\n  priority: debug\r\n";

/// A file as large as Falco's own three together: many macros and rules, each with lists.
pub(super) fn large() -> String {
    let mut text = String::new();
    for index in 0..120 {
        let items: Vec<_> = (0..12).map(|item| format!("program_{index}_{item}")).collect();
        text += &format!("- list: list_{index}\n  items: [{}]\n\n", items.join(", "));
    }
    for index in 0..250 {
        let list = index % 120;
        text += &format!(
            "- macro: macro_{index}\n  condition: >\n    (evt.type in (open, openat) and proc.name in (list_{list})\n    \
             and not fd.name startswith /usr/{index}/lib)\n\n"
        );
    }
    for index in 0..93 {
        let (one, two, three) = (index, index + 100, (index * 7) % 250);
        text += &format!(
            "- rule: Rule {index}\n  desc: What {index} things do, told in a sentence of the usual length.\n  condition: >\n    \
             macro_{one} and (macro_{two} or macro_{three}) and fd.name in (/etc/{index}/a, /etc/{index}/b)\n    \
             and not proc.pname in (list_{one}, list_{three_list})\n  output: A thing (file=%fd.name command=%proc.cmdline)\n  \
             priority: WARNING\n  tags: [a, b]\n\n",
            three_list = three % 120,
        );
    }
    text
}
