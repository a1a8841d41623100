//! What happens to the manifests is in the next snapshot.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use super::harness::{Folders, has_problem, names_of, pools, service};

#[tokio::test]
async fn a_folder_becomes_a_snapshot_and_every_edit_the_next() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    folders.write("pools.yml", &pools("192.0.2.0/28"));
    folders.write("ignored.txt", "kind: [");
    folders.write(".a.yaml.swp", "kind: [");
    folders.write("#a.yaml", "kind: [");
    let mut running = folders.open("one").await;
    let first = running.services(&["a"]).await;
    assert!(first.problems.is_empty() && !first.pools_stale, "{:?}", first.problems);
    assert_eq!((first.generation, first.pools.pools.len()), (1, 1));
    folders.write("b.yaml", &service("b"));
    let second = running.services(&["a", "b"]).await;
    assert!(Arc::ptr_eq(&first.pools, &second.pools) && Arc::ptr_eq(&first.config_maps, &second.config_maps));
    fs::remove_file(folders.manifests().join("a.yaml")).unwrap();
    running.services(&["b"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_renamed_over_another_replaces_it() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("old"));
    let mut running = folders.open("one").await;
    running.services(&["old"]).await;
    folders.write("a.yaml.tmp", &service("new"));
    fs::rename(folders.manifests().join("a.yaml.tmp"), folders.manifests().join("a.yaml")).unwrap();
    running.services(&["new"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_when_its_link_is_swapped() {
    let folders = Folders::new();
    let mount = folders.manifests().join("mount");
    for (version, name) in [("..2026_1", "old"), ("..2026_2", "new")] {
        fs::create_dir_all(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("a.yaml"), service(name)).unwrap();
    }
    symlink("..2026_1", mount.join("..data")).unwrap();
    symlink("..data/a.yaml", mount.join("a.yaml")).unwrap();
    let mut running = folders.open("one").await;
    let first = running.services(&["old"]).await;
    assert!(first.problems.is_empty(), "each file is read once: {:?}", first.problems);
    symlink("..2026_2", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    fs::remove_dir_all(mount.join("..2026_1")).unwrap();
    running.services(&["new"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_subfolder_comes_moves_and_goes() {
    let folders = Folders::new();
    let mut running = folders.open("one").await;
    running.services(&[]).await;
    let (inside, outside) = (folders.manifests().join("shop"), folders.path().join("shop"));
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::write(outside.join("deep/a.yaml"), service("a")).unwrap();
    fs::rename(&outside, &inside).unwrap();
    running.services(&["a"]).await;
    fs::write(inside.join("deep/b.yaml"), service("b")).unwrap();
    running.services(&["a", "b"]).await;
    fs::rename(&inside, folders.manifests().join("store")).unwrap();
    let moved = running.snapshot("new name", |snapshot| {
        let places = snapshot.origins.values().filter_map(|origin| origin.locate(&config::object::FieldPath::root()));
        places.into_iter().all(|place| place.file.contains("store"))
    });
    assert_eq!(names_of(&*moved.await), ["a", "b"]);
    fs::remove_dir_all(folders.manifests().join("store")).unwrap();
    running.services(&[]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_folder_that_vanishes_keeps_its_objects_until_it_returns() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    fs::remove_dir_all(folders.manifests()).unwrap();
    let gone = running.problem("cannot be listed").await;
    assert_eq!(names_of(&gone), ["a"]);
    fs::create_dir(folders.manifests()).unwrap();
    folders.write("b.yaml", &service("b"));
    let back = running.services(&["b"]).await;
    assert!(back.problems.is_empty(), "{:?}", back.problems);
    folders.write("c.yaml", &service("c"));
    running.services(&["b", "c"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_missing_folder_is_an_error_at_the_start() {
    let folders = Folders::new();
    fs::remove_dir(folders.manifests()).unwrap();
    let error = folders.try_open("one").await.err().unwrap().to_string();
    assert!(error.contains("cannot read the manifests") && error.contains("--manifests"), "{error}");
}

#[tokio::test]
async fn what_breaks_stays_as_it_was_and_is_told() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    folders.write("b.yaml", &service("b"));
    folders.write("pools.yaml", &pools("192.0.2.0/28"));
    let mut running = folders.open("one").await;
    let good = running.services(&["a", "b"]).await;

    folders.write("a.yaml", "apiVersion: v1\nkind: [Service\n");
    let broken = running.problem("the object last read from here stays in use").await;
    assert!(has_problem(&broken, "a.yaml:"), "{:?}", broken.problems);
    assert!(Arc::ptr_eq(&broken.services, &good.services));
    folders.write("a.yaml", &service("a"));
    running.snapshot("mended", |snapshot| snapshot.problems.is_empty()).await;

    folders.write("pools.yaml", &pools("192.0.2.20-192.0.2.10"));
    let stale = running.snapshot("stale pools", |snapshot| snapshot.pools_stale).await;
    assert_eq!(stale.pools, good.pools);
    assert!(has_problem(&stale, "last good configuration stays in use"), "{:?}", stale.problems);
    fs::remove_file(folders.manifests().join("pools.yaml")).unwrap();
    let gone = running.problem("it is gone").await;
    assert!(gone.pools_stale && gone.pools == good.pools);
    folders.write("pools.yaml", &pools("192.0.2.0/24"));
    let new = running.snapshot("new pools", |snapshot| !snapshot.pools_stale && snapshot.pools != good.pools).await;
    assert!(new.problems.is_empty(), "{:?}", new.problems);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_its_place() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    folders.write("dangling.yaml", "");
    fs::write(folders.manifests().join("latin.yaml"), b"kind: Service\n# gr\xfc\xdfe\n").unwrap();
    let large = fs::File::create(folders.manifests().join("large.yaml")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    fs::remove_file(folders.manifests().join("dangling.yaml")).unwrap();
    symlink("nowhere", folders.manifests().join("dangling.yaml")).unwrap();
    symlink("..", folders.manifests().join("loop")).unwrap();
    let mut running = folders.open("one").await;
    let snapshot = running.services(&["a"]).await;
    for text in ["latin.yaml:2:5", "not UTF-8", "large.yaml:1:1", "16777217 bytes", "dangling.yaml:1:1"] {
        assert!(has_problem(&snapshot, text), "{text}: {:?}", snapshot.problems);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_file_without_permission_keeps_its_objects() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let path = folders.manifests().join("a.yaml");
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: root reads a file of mode 0");
    } else {
        let snapshot = running.problem("it cannot be read").await;
        assert_eq!(names_of(&snapshot), ["a"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        running.snapshot("mended", |snapshot| snapshot.problems.is_empty()).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn an_unchanged_folder_publishes_nothing() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    let first = running.services(&["a"]).await;
    // Touched and rewritten with the same text; then something new, to know that all of it was seen.
    folders.write("a.yaml", &service("a"));
    fs::write(folders.manifests().join("note.txt"), "not ours").unwrap();
    folders.write("b.yaml", &service("b"));
    let next = running.services(&["a", "b"]).await;
    assert!(next.generation <= first.generation + 1, "{} snapshots", next.generation - first.generation);
    running.stop().await;
}

#[tokio::test]
async fn a_file_cut_short_before_it_is_written_keeps_its_objects() {
    let folders = Folders::new();
    folders.write("a.yaml", &service("a"));
    let mut running = folders.open("one").await;
    running.services(&["a"]).await;
    folders.write("a.yaml", "");
    folders.write("b.yaml", &service("b"));
    running.services(&["a", "b"]).await;
    // It stays empty, so that is what was meant.
    running.services(&["b"]).await;
    running.stop().await;
}
