//! What a look through a folder sees.

#![expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]

use std::fs;

use tempfile::TempDir;

use super::*;

fn texts(scanned: &Scanned) -> Vec<(String, String)> {
    let text = |reading: &Reading| match reading {
        Reading::Text(text) => text.to_string(),
        Reading::Failed(problem) => problem.message.clone(),
    };
    scanned.tree.files.iter().map(|(name, reading)| (name.to_string(), text(reading))).collect()
}

#[test]
fn a_settled_file_is_not_read_again_and_its_text_is_shared() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), "a: 1").unwrap();
    let mut scanner = Scanner::new(folder.path().to_owned());
    let start = Instant::now();
    let first = scanner.scan(start);
    assert_eq!(first.again, Some(start + TICK), "timestamps tick coarsely");
    let second = scanner.scan(start + TICK);
    assert_eq!((second.again, &second.tree), (None, &first.tree));
    let text = |scanned: &Scanned| match scanned.tree.files.values().next() {
        Some(Reading::Text(text)) => Arc::clone(text),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&text(&first), &text(&second)));
}

#[test]
fn an_edit_of_the_same_size_is_seen_even_if_its_time_is_set_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, "a: 1").unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut scanner = Scanner::new(folder.path().to_owned());
    let start = Instant::now();
    scanner.scan(start);
    fs::write(&path, "a: 2").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(texts(&scanner.scan(start + TICK))[0].1, "a: 2");
}

#[test]
fn a_file_counts_as_empty_when_it_stays_empty() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, "a: 1").unwrap();
    let mut scanner = Scanner::new(folder.path().to_owned());
    let start = Instant::now();
    scanner.scan(start);
    fs::write(&path, "").unwrap();
    let just = scanner.scan(start + TICK);
    assert_eq!((texts(&just)[0].1.as_str(), just.again), ("a: 1", Some(start + TICK + TICK)));
    let later = scanner.scan(start + TICK + EMPTY_AFTER);
    assert_eq!(texts(&later)[0].1, "");
}

#[test]
fn loops_and_second_names_of_a_folder_are_read_once() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    fs::write(folder.path().join("b/c/x.json"), "{}").unwrap();
    std::os::unix::fs::symlink("../..", folder.path().join("b/c/up")).unwrap();
    std::os::unix::fs::symlink("b", folder.path().join("z")).unwrap();
    std::os::unix::fs::symlink("self.yaml", folder.path().join("self.yaml")).unwrap();
    let scanned = Scanner::new(folder.path().to_owned()).scan(Instant::now());
    let names: Vec<String> = texts(&scanned).into_iter().map(|(name, _)| name).collect();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    assert_eq!(names, [path("b/c/x.json"), path("self.yaml")]);
    assert!(texts(&scanned)[1].1.contains("cannot be read"), "{:?}", texts(&scanned));
}

#[test]
fn the_state_folder_is_no_manifest_though_it_lies_inside() {
    use std::os::unix::fs::MetadataExt;
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/services.json"), "{}").unwrap();
    let state = fs::metadata(folder.path().join("state")).unwrap();
    let mut scanner = Scanner::new(folder.path().to_owned());
    scanner.exclude(Some((state.dev(), state.ino())));
    assert!(scanner.scan(Instant::now()).tree.files.is_empty());
}

#[test]
fn a_pipe_does_not_hold_us_up() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe.yaml");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: there is no mkfifo here");
        return;
    }
    let scanned = Scanner::new(folder.path().to_owned()).scan(Instant::now());
    assert!(texts(&scanned)[0].1.contains("neither a file nor a folder"), "{:?}", texts(&scanned));
}
