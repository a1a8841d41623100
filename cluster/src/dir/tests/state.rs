//! The state folder outlives what happens to the process and to the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::harness::{Folders, address_of, has_problem, pools, service, until};
use crate::Leadership;

#[tokio::test]
async fn a_committed_address_comes_back_after_a_restart() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    running.assign(&[("a", "192.0.2.1")]).await;
    running.stop().await;
    let mode = |name: &str| fs::metadata(folders.state().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("services.json"), mode("lock")), (0o700, 0o600, 0o600));

    let mut again = folders.open("one").await;
    let first = again.services(&["a"]).await;
    assert_eq!(address_of(&first, "a").as_deref(), Some("192.0.2.1"));
    again.stop().await;
}

#[tokio::test]
async fn what_is_reported_last_is_written_before_it_stops() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    running.report(&[("a", "192.0.2.1")]);
    running.stop().await;
    assert!(fs::read_to_string(folders.state().join("services.json")).unwrap().contains("192.0.2.1"));
}

#[tokio::test]
async fn a_second_process_follows_and_takes_over_what_the_first_committed() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    folders.write("b.yaml", &service("b"));
    let mut first = folders.open("first").await;
    first.services(&["a", "b"]).await;
    first.leads().await;
    let mut second = folders.open("second").await;
    second.services(&["a", "b"]).await;
    assert_eq!(*second.cluster.leadership.borrow(), Leadership::Follower);

    first.assign(&[("a", "192.0.2.1")]).await;
    // The follower would give the address to b; it sees what the leader gave, and writes nothing.
    second.report(&[("b", "192.0.2.1")]);
    let seen = second.snapshot("the leader's address", |snapshot| address_of(snapshot, "a").is_some()).await;
    assert_eq!((address_of(&seen, "a").as_deref(), address_of(&seen, "b")), (Some("192.0.2.1"), None));

    first.stop().await;
    second.leads().await;
    let after = second.assign(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]).await;
    assert_eq!(address_of(&after, "a").as_deref(), Some("192.0.2.1"));
    second.stop().await;
}

#[tokio::test]
async fn a_removed_state_folder_is_made_anew_with_what_was_known() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    running.assign(&[("a", "192.0.2.1")]).await;
    fs::remove_dir_all(folders.state()).unwrap();
    let file = folders.state().join("services.json");
    until("the statuses are back", || fs::read_to_string(&file).is_ok_and(|text| text.contains("192.0.2.1"))).await;
    running.leads().await;
    running.stop().await;
}

#[tokio::test]
async fn damaged_statuses_are_set_aside_and_told() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    fs::create_dir(folders.state()).unwrap();
    for number in 1..=2 {
        fs::write(folders.state().join("services.json"), "{\"version\": 1, \"serv").unwrap();
        let mut running = folders.open("one").await;
        let snapshot = running.services(&["a"]).await;
        let aside = folders.state().join(format!("services.json.corrupt-{number}"));
        assert!(aside.exists() && has_problem(&snapshot, &aside.to_string_lossy()), "{:?}", snapshot.problems);
        running.assign(&[("a", "192.0.2.1")]).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn statuses_of_a_newer_program_are_left_alone() {
    let folders = Folders::new();
    fs::create_dir(folders.state()).unwrap();
    let newer = "{\"version\": 7, \"services\": []}";
    fs::write(folders.state().join("services.json"), newer).unwrap();
    let error = folders.try_open("one").await.err().unwrap();
    assert!(format!("{error}").contains("version 7"), "{error}");
    assert_eq!(fs::read_to_string(folders.state().join("services.json")).unwrap(), newer);
}

#[tokio::test]
async fn a_service_in_a_file_that_cannot_be_read_keeps_its_address_over_a_restart() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    running.assign(&[("a", "192.0.2.1")]).await;
    running.stop().await;

    folders.write("a.yaml", "kind: [");
    folders.write("b.yaml", &service("b"));
    let mut again = folders.open("one").await;
    again.services(&["b"]).await;
    let refused = again.refused(&[("b", "192.0.2.1")], "still belongs to Service default/a").await;
    assert_eq!(address_of(&refused, "b"), None);

    folders.write("a.yaml", &service("a"));
    let mended = again.services(&["a", "b"]).await;
    assert_eq!(address_of(&mended, "a").as_deref(), Some("192.0.2.1"));
    again.stop().await;
}

#[tokio::test]
async fn the_last_good_address_configuration_outlives_a_restart() {
    let folders = Folders::new();
    folders.write("pools.yaml", &pools("192.0.2.0/28"));
    let mut running = folders.open("one").await;
    let good = running.services(&[]).await;
    let kept = folders.state().join("address-config.yaml");
    until("the configuration is kept", || kept.exists()).await;
    running.stop().await;
    folders.write("pools.yaml", &pools("192.0.2.20-192.0.2.10"));
    let mut again = folders.open("one").await;
    let stale = again.services(&[]).await;
    assert!(stale.pools_stale && stale.pools == good.pools);
    again.stop().await;
}

#[tokio::test]
async fn a_secret_of_ours_is_there_unless_a_manifest_has_it() {
    let folders = Folders::new();
    let secret =
        |value: &str| format!("kind: Secret\napiVersion: v1\nmetadata: {{name: tls}}\nstringData: {{who: {value}}}\n");
    fs::create_dir_all(folders.state().join("secrets")).unwrap();
    fs::write(folders.state().join("secrets/tls.yaml"), secret("ours")).unwrap();
    let mut running = folders.open("one").await;
    let has = |value: &'static str| {
        move |snapshot: &config::snapshot::Snapshot| {
            format!("{:?}", snapshot.secrets).contains(value) || {
                let encoded = snapshot.secrets.values().find_map(|secret| secret.data.as_ref()?.get("who").cloned());
                encoded.is_some_and(|bytes| bytes.0 == value.as_bytes())
            }
        }
    };
    running.snapshot("our secret", has("ours")).await;
    folders.write("tls.yaml", &secret("theirs"));
    let theirs = running.snapshot("the manifest's secret", has("theirs")).await;
    assert!(theirs.problems.is_empty(), "{:?}", theirs.problems);
    fs::remove_file(folders.manifests().join("tls.yaml")).unwrap();
    running.snapshot("our secret again", has("ours")).await;
    running.stop().await;
}
