//! Whatever ends the process or fills the disk: a committed address is there afterwards.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::super::atomic::{Step, clean, replace, replace_gated};
use super::harness::{Folders, address_of, has_problem, service};
use crate::memory::Memory;

/// Set for a copy of this program that plays a part in a test.
const PART: &str = "FERROGATE_TEST_PART";
const STEPS: [Step; 5] = [Step::Create, Step::Write, Step::Sync, Step::Rename, Step::SyncFolder];

#[test]
fn a_replacement_that_fails_leaves_the_old_text_or_the_new_one() {
    for failing in STEPS {
        let folder = TempDir::new().unwrap();
        replace(folder.path(), "file", "old").unwrap();
        let mut gate = |step| if step == failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        replace_gated(folder.path(), "file", "new", &mut gate).unwrap_err();
        let expected = if failing == Step::SyncFolder { "new" } else { "old" };
        assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), expected, "{failing:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing fills the disk: {failing:?}");
        replace(folder.path(), "file", "newer").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "newer");
    }
}

#[test]
fn what_a_killed_replacement_leaves_behind_is_cleaned_and_in_nobodys_way() {
    for last in STEPS {
        let folder = TempDir::new().unwrap();
        replace(folder.path(), "file", "old").unwrap();
        let mut gate = |step| if step == last { panic::resume_unwind(Box::new("killed")) } else { Ok(()) };
        let killed = AssertUnwindSafe(|| replace_gated(folder.path(), "file", "new", &mut gate));
        panic::catch_unwind(killed).unwrap_err();
        let text = fs::read_to_string(folder.path().join("file")).unwrap();
        assert_eq!(text, if last == Step::SyncFolder { "new" } else { "old" }, "{last:?}");
        clean(folder.path(), "file").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{last:?}");
    }
}

/// Runs the test `name` of this program as another process, told its part by `argument`.
fn spawn(name: &str, argument: &str, launcher: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut words = launcher.iter().map(std::convert::AsRef::as_ref).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    let test = format!("dir::tests::crash::{name}");
    command.args(words).args(["--exact", &test, "--nocapture"]).env(PART, argument);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// The address that stands for a number.
fn address(number: u32) -> String {
    format!("10.0.{}.{}", number >> 8, number & 255)
}

fn number(address: &str) -> u32 {
    address.parse::<std::net::Ipv4Addr>().unwrap().to_bits() & 0xffff
}

#[tokio::test]
async fn killing_the_writer_again_and_again_never_loses_or_doubles_an_address() {
    let folders = Folders::new();
    for name in ["a", "b"] {
        folders.write(&format!("{name}.yaml"), &service(name));
    }
    for round in 0..25_usize {
        let mut child = spawn("writer", &folders.path().to_string_lossy(), &[]);
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut numbers = said.by_ref().filter_map(|line| line.parse::<u32>().ok());
        let before = (0..=round % 7).map_while(|_| numbers.next()).last().expect("the writer writes");
        // Another process is already waiting when the writer is killed in the middle of whatever it does.
        let mut next = folders.open("next").await;
        child.kill().unwrap();
        child.wait().unwrap();
        let committed = numbers.last().unwrap_or(before);
        next.leads().await;
        let found = next.snapshot("both addresses", |snapshot| address_of(snapshot, "b").is_some()).await;
        let [a, b] = ["a", "b"].map(|name| number(&address_of(&found, name).unwrap()));
        assert_eq!(b, a + 1, "both were written at once");
        assert!(a == committed || a == committed + 2, "{committed} was seen, {a} found");
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let text = fs::read_to_string(folders.state().join("services.json")).unwrap();
        assert_eq!(Memory::decode(&text).unwrap().services.len(), 2);
        next.stop().await;
    }
}

/// Moves both Services to new addresses for ever, and says which were seen in a snapshot.
#[tokio::test]
async fn writer() {
    let Some(path) = part() else { return };
    let mut running = Folders::at(path.into()).open("writer").await;
    let start = running.services(&["a", "b"]).await;
    let first = address_of(&start, "a").map_or(0, |address| number(&address) + 2);
    for number in (first..).step_by(2) {
        running.assign(&[("a", &address(number)), ("b", &address(number + 1))]).await;
        eprintln!("{number}");
    }
}

#[test]
fn a_full_disk_is_told_and_what_is_committed_stays() {
    let allowed = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespace can be had here");
        return;
    }
    let output = spawn("on_a_full_disk", "", &["unshare", "-rm"]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("written when there was room again"), "{said}");
}

#[tokio::test]
async fn on_a_full_disk() {
    if part().is_none() {
        return;
    }
    let folders = Folders::new();
    fs::create_dir(folders.state()).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folders.state()).status();
    assert!(mount.unwrap().success());
    for name in ["a", "b"] {
        folders.write(&format!("{name}.yaml"), &service(name));
    }
    let mut running = folders.open("one").await;
    running.services(&["a", "b"]).await;
    running.assign(&[("a", "192.0.2.1")]).await;

    let filler = folders.state().join("filler");
    let full = fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    running.report(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]);
    let told = running.problem("No space left on device").await;
    let addresses = |snapshot: &_| ["a", "b"].map(|name| address_of(snapshot, name));
    assert_eq!(addresses(&told), [Some("192.0.2.1".into()), None], "what is not on disk is not committed");

    fs::remove_file(filler).unwrap();
    let mended = running.assign(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]).await;
    assert!(!has_problem(&mended, "No space left"), "{:?}", mended.problems);
    running.stop().await;
    eprintln!("written when there was room again");
    Command::new("umount").arg(folders.state()).status().unwrap();
}
