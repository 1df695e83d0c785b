//! Feeds arbitrary texts to `creance patch`, as a task definition and as a file of Kubernetes.
//!
//! The first byte chooses the pattern. What was patched must be known as patched and stay as it is, and a place must be one
//! in the text.

#![no_main]

use creance::cli::patch::{Pattern, Request, pods, task_definition};
use libfuzzer_sys::fuzz_target;

const PATTERNS: [Pattern; 5] = [
    Pattern::EmbeddedBinaries,
    Pattern::MountedBinaries,
    Pattern::SidecarPtrace,
    Pattern::SidecarVolume,
    Pattern::SidecarAttach,
];

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let mut request = Request::new(PATTERNS[usize::from(*first) % PATTERNS.len()]);
    request.image_prefix = Some("registry.example/".into());
    if !matches!(request.pattern, Pattern::MountedBinaries | Pattern::SidecarAttach) {
        request.workload_image = Some("image".into());
    }
    for patch in [task_definition, pods] {
        match patch(&text, &request) {
            Ok(patched) => {
                let again = patch(&patched.text, &request).expect("what was patched can be read");
                assert!(!again.is_changed && again.text == patched.text, "patched once is patched");
            }
            Err(refusal) => {
                assert!(refusal.at.is_none_or(|at| text.get(at..).is_some()), "a place is in the text");
                assert!(!refusal.message.is_empty());
            }
        }
    }
});
