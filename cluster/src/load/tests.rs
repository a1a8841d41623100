//! What `ferrogate check` reads.

use tempfile::TempDir;

use super::*;

const POOLS: &str = "address-pools:\n- name: edge\n  protocol: layer2\n  addresses: [192.0.2.0/28]\n";

fn map(name: &str, config: &str) -> String {
    let config = config.trim_end().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: metallb-system, name: {name}}}\ndata:\n  config: |\n    {config}\n"
    )
}

fn loaded(files: &[(&str, &str)]) -> Loaded {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    load(&paths, &ObjectName::new("metallb-system", "config"))
}

fn pools(loaded: &Loaded) -> Vec<&str> {
    loaded.snapshot.pools.pools.iter().map(|pool| pool.name.as_str()).collect()
}

#[test]
fn a_bare_configuration_is_read_whatever_its_file_is_called() {
    let loaded = loaded(&[("metallb.conf", POOLS)]);
    assert_eq!((pools(&loaded), loaded.snapshot.problems.len(), loaded.files), (vec!["edge"], 0, 1));
}

#[test]
fn a_mistake_in_a_bare_configuration_has_its_place_there() {
    let loaded = loaded(&[("metallb.conf", &POOLS.replace("192.0.2.0/28", "192.0.2.9-192.0.2.1"))]);
    assert!(loaded.snapshot.pools_stale);
    let problem = loaded.snapshot.problems.first().unwrap().to_string();
    assert!(problem.contains("metallb.conf:4:"), "{problem}");
}

#[test]
fn of_several_configurations_one_counts_and_all_are_checked() {
    let (named, other) =
        (map("config", &POOLS.replace("edge", "named")), map("metallb", &POOLS.replace("edge", "other")));
    let wrong = POOLS.replace("layer2", "layer3");
    for (files, expected) in [
        (vec![("a.yaml", POOLS), ("b.yaml", &named), ("c.yaml", &other)], "named"),
        (vec![("a.yaml", &other), ("b.yaml", POOLS)], "edge"),
        (vec![("a.yaml", &other)], "other"),
    ] {
        let loaded = loaded(&files);
        assert_eq!(pools(&loaded), [expected]);
        let errors = loaded.snapshot.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        assert_eq!(errors, 0, "{:?}", loaded.snapshot.problems);
    }
    let checked = loaded(&[("a.yaml", &named), ("b.yaml", &wrong)]);
    assert!(checked.snapshot.problems.iter().any(|problem| problem.message.contains("layer3")));
    assert_eq!(pools(&checked), ["named"]);
}

#[test]
fn a_folder_is_searched_and_a_missing_path_told() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::write(folder.path().join("deep/pools.yaml"), map("config", POOLS)).unwrap();
    fs::write(folder.path().join("deep/app.yaml"), "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
        .unwrap();
    let missing = folder.path().join("missing.yaml");
    let loaded = load(&[folder.path().to_owned(), missing], &ObjectName::new("metallb-system", "config"));
    assert_eq!((pools(&loaded), &loaded.ignored), (vec!["edge"], &vec!["Deployment default/web".to_owned()]));
    let problem = loaded.snapshot.problems.first().unwrap().to_string();
    assert!(problem.contains("missing.yaml:1:1") && problem.contains("cannot be read"), "{problem}");
}
