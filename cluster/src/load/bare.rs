//! Tells a bare MetalLB configuration from a Kubernetes manifest.
//!
//! By its top-level keys, read from the lines rather than parsed: a text with a mistake in it must get to the right
//! parser too, which is the one that explains the mistake.

/// Top-level keys of a MetalLB configuration.
const OURS: [&str; 4] = ["address-pools", "peers", "bgp-communities", "bfd-profiles"];
/// Top-level keys of a manifest.
const KUBERNETES: [&str; 2] = ["apiVersion", "kind"];

/// Whether `text` is a configuration as it stands inside the `ConfigMap`.
pub(super) fn is_bare(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let keys = top_level_keys(text);
    let any = |known: &[&str]| keys.iter().any(|key| known.contains(key));
    any(&OURS) && !any(&KUBERNETES)
}

fn top_level_keys(text: &str) -> Vec<&str> {
    let content = |line: &&str| {
        let trimmed = line.trim_start();
        !trimmed.is_empty() && !trimmed.starts_with(['#', '%']) && !trimmed.starts_with("---")
    };
    let Some(first) = text.lines().find(content) else { return Vec::new() };
    if first.trim_start().starts_with('{') {
        // JSON, or YAML written like it: any quoted or plain word that is followed by a colon.
        return text.split(['{', '}', ',', '[', ']', '\n']).filter_map(key).collect();
    }
    let indent = first.len() - first.trim_start().len();
    let at_top = |line: &&str| line.len() - line.trim_start().len() == indent;
    text.lines().filter(content).filter(at_top).filter_map(key).collect()
}

/// The key that a line begins with.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    Some(key.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_configuration_is_known_by_its_keys() {
        for (text, expected) in [
            ("address-pools:\n- name: a\n", true),
            ("\u{feff}# ours\n---\n\"peers\": []\n", true),
            ("  bfd-profiles: []\n  unknown: 1\n", true),
            ("{\"bgp-communities\": {}}", true),
            ("peers:\n\t- broken", true),
            ("", false),
            ("apiVersion: v1\nkind: ConfigMap\ndata:\n  config: |\n    address-pools: []\n", false),
            ("apiVersion: v1\npeers: []\n", false),
            ("{\"kind\": \"ConfigMap\", \"peers\": []}", false),
            ("spec:\n  peers: []\n", false),
        ] {
            assert_eq!(is_bare(text), expected, "{text}");
        }
    }
}
