//! An address once given stays, whatever happens to the process, the files or the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::source::Source;
use ferrogate_tests::wait::{PATIENCE, until, within};

/// Enough addresses for everybody, none of them anybody's.
const RANGE: &str = "127.3.0.1-127.3.0.250";

/// Waits until every Service has an address, and returns them by name.
async fn settled(source: &Source, appliance: &Appliance, services: usize) -> BTreeMap<String, String> {
    // Longer than a Lease that nobody renews.
    within(PATIENCE * 3, &format!("{services} addresses"), async || {
        let all = source.addresses(appliance).await;
        let given = all.iter().filter(|(_, ip)| !ip.is_empty()).count();
        if given == services { Ok(all.into_iter().collect()) } else { Err(format!("{given} of {}", all.len())) }
    })
    .await
}

fn assert_no_address_twice(addresses: &BTreeMap<String, String>) {
    let mut owners = BTreeMap::new();
    for (service, ip) in addresses.iter().filter(|(_, ip)| !ip.is_empty()) {
        if let Some(other) = owners.insert(ip, service) {
            panic!("{ip} belongs to {other} and to {service}");
        }
    }
}

async fn a_restart_keeps_addresses_and_unrelated_files_never_renumber(source: Source) {
    source.write("pool.yaml", &pool(&[RANGE]));
    // Written in the order z, m, a: names must not decide who keeps what.
    for name in ["z", "m", "a"] {
        source.write(&format!("{name}.yaml"), &load_balancer("shop", name));
    }
    let builder = source.builder();
    let first = settled(&source, &builder.start().await, 3).await;

    source.write("0-first.yaml", &load_balancer("aaa", "newcomer"));
    let appliance = builder.start().await;
    let second = settled(&source, &appliance, 4).await;
    for (service, ip) in &first {
        assert_eq!(second.get(service), Some(ip), "{service} after a restart with a newcomer");
    }

    source.remove("m.yaml");
    settled(&source, &appliance, 3).await;
    source.write("m-again.yaml", &load_balancer("shop", "m"));
    let third = settled(&source, &appliance, 4).await;
    for name in ["shop/a", "shop/z", "aaa/newcomer"] {
        assert_eq!(third.get(name), second.get(name), "{name} after another Service went and came");
    }
    assert_no_address_twice(&third);

    source.remove("pool.yaml");
    source.write("pools.yaml", &pool(&[RANGE, "127.3.1.0/24"]));
    drop(appliance);
    let fourth = settled(&source, &builder.start().await, 4).await;
    assert_eq!(fourth, third, "the pool was written anew");
}

async fn kills_at_any_moment_neither_lose_nor_double_an_address(source: Source) {
    source.write("pool.yaml", &pool(&[RANGE]));
    let builder = source.builder();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    // Whoever starts anew in a cluster waits for the Lease of the one that was killed: fewer, and each has written.
    let rounds = if source.is_folder() { 50 } else { 4 };
    for round in 0..rounds {
        let mut appliance = builder.start().await;
        if !source.is_folder() {
            settled(&source, &appliance, usize::try_from(2 * round).expect("a few")).await;
        }
        let shown: BTreeMap<_, _> = source.addresses(&appliance).await.into_iter().collect();
        for (service, ip) in &known {
            assert_eq!(shown.get(service), Some(ip), "{service} after kill {round}");
        }
        assert_no_address_twice(&shown);
        // Two newcomers in two steps, so that a kill finds the state between any two writes.
        source.write(&format!("s{round}.yaml"), &load_balancer("shop", &format!("s{round}")));
        tokio::time::sleep(moment(round)).await;
        source.write(&format!("t{round}.yaml"), &load_balancer("shop", &format!("t{round}")));
        tokio::time::sleep(moment(round * 7 + 3)).await;
        known.extend(source.addresses(&appliance).await.into_iter().filter(|(_, ip)| !ip.is_empty()));
        appliance.process().kill();
    }
    let all = settled(&source, &builder.start().await, usize::try_from(2 * rounds).expect("a hundred at most")).await;
    assert_no_address_twice(&all);
    for (service, ip) in &known {
        assert_eq!(all.get(service), Some(ip), "{service} at the end");
    }
}

/// Another moment each time, within what a change takes from file to state: 0 to 96 ms.
fn moment(round: u32) -> Duration {
    Duration::from_millis(u64::from(round * 37 % 97))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_appliances_on_one_state_folder_never_double_an_address() {
    let (source, state) = (Source::folder(), Folder::new());
    let folder = source.as_folder();
    folder.write("pool.yaml", &pool(&[RANGE]));
    folder.write("a.yaml", &load_balancer("shop", "a"));
    let first = Builder::new(folder.path()).state(state.path()).start().await;
    let before = settled(&source, &first, 1).await;
    let mut second = Builder::new(folder.path()).state(state.path()).spawn();
    second.ready().await;
    folder.write("b.yaml", &load_balancer("shop", "b"));
    let after = settled(&source, &first, 2).await;
    assert_eq!(after.get("shop/a"), before.get("shop/a"));
    drop(first);
    folder.write("c.yaml", &load_balancer("shop", "c"));
    let taken_over = settled(&source, &second, 3).await;
    assert_no_address_twice(&taken_over);
    for (service, ip) in &after {
        assert_eq!(taken_over.get(service), Some(ip), "{service} after the other took over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_clearly_and_stops_nothing() {
    skip_unless_root!();
    let (source, state) = (Source::folder(), Folder::new());
    let folder = source.as_folder();
    folder.write("pool.yaml", &pool(&[RANGE]));
    let disk = Disk::mount(state.path());
    folder.write("a.yaml", &load_balancer("shop", "a"));
    let builder = Builder::new(folder.path()).state(state.path());
    let mut appliance = builder.start().await;
    let before = settled(&source, &appliance, 1).await;

    disk.fill();
    for index in 0..40 {
        folder.write(&format!("n{index}.yaml"), &load_balancer("shop", &format!("n{index}")));
    }
    until("a problem that names the full disk", async || {
        let problems = appliance.problems().await;
        let said = |problem: &serde_json::Value| {
            problem["message"].as_str().is_some_and(|message| message.to_lowercase().contains("no space left"))
        };
        if problems.iter().any(said) { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
    let during: BTreeMap<_, _> = appliance.addresses().await.into_iter().collect();
    assert_eq!(during.get("shop/a"), before.get("shop/a"), "what was given stays");
    assert_eq!(appliance.process().ended(), None, "it keeps running");

    disk.empty();
    folder.write("again.yaml", &load_balancer("shop", "again"));
    let after = settled(&source, &appliance, 42).await;
    assert_no_address_twice(&after);
    drop(appliance);
    assert_eq!(
        settled(&source, &builder.start().await, 42).await,
        after,
        "what the disk holds after it had room again"
    );
}

/// A tiny file system over a folder; unmounted on drop.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at).status();
        assert!(done.is_ok_and(|status| status.success()), "root may mount a tmpfs");
        Self(at)
    }

    fn fill(&self) {
        let full = std::fs::write(self.0.join("filler"), vec![0; 128 * 1024]);
        assert!(full.is_err(), "the disk is smaller than that");
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("a file can be deleted from a full disk");
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Lazily: the appliance may still hold its lock there.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

from_both!(
    a_restart_keeps_addresses_and_unrelated_files_never_renumber,
    kills_at_any_moment_neither_lose_nor_double_an_address,
);
