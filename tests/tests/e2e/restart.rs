//! An address once given stays, whatever happens to the process, the files or the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrogate_tests::appliance::{Appliance, Builder};
use ferrogate_tests::folder::Folder;
use ferrogate_tests::manifests::{load_balancer, pool};
use ferrogate_tests::skip_unless_root;
use ferrogate_tests::wait::until;

/// Enough addresses for everybody, none of them anybody's.
const RANGE: &str = "127.3.0.1-127.3.0.250";

/// Waits until every Service has an address, and returns them by name.
async fn settled(appliance: &Appliance, services: usize) -> BTreeMap<String, String> {
    until(&format!("{services} addresses"), async || {
        let all = appliance.addresses().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_addresses_and_unrelated_files_never_renumber() {
    let (folder, state) = (Folder::with(&[("pool.yaml", &pool(&[RANGE]))]), Folder::new());
    // Written in the order z, m, a: names must not decide who keeps what.
    for name in ["z", "m", "a"] {
        folder.write(&format!("{name}.yaml"), &load_balancer("shop", name));
    }
    let builder = Builder::new(folder.path()).state(state.path());
    let first = settled(&builder.start().await, 3).await;

    folder.write("0-first.yaml", &load_balancer("aaa", "newcomer"));
    let appliance = builder.start().await;
    let second = settled(&appliance, 4).await;
    for (service, ip) in &first {
        assert_eq!(second.get(service), Some(ip), "{service} after a restart with a newcomer");
    }

    folder.remove("m.yaml");
    settled(&appliance, 3).await;
    folder.write("m-again.yaml", &load_balancer("shop", "m"));
    let third = settled(&appliance, 4).await;
    for name in ["shop/a", "shop/z", "aaa/newcomer"] {
        assert_eq!(third.get(name), second.get(name), "{name} after another Service went and came");
    }
    assert_no_address_twice(&third);

    folder.remove("pool.yaml");
    folder.write("pools.yaml", &pool(&[RANGE, "127.3.1.0/24"]));
    drop(appliance);
    let fourth = settled(&builder.start().await, 4).await;
    assert_eq!(fourth, third, "the pool was written anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_at_any_moment_neither_lose_nor_double_an_address() {
    let (folder, state) = (Folder::with(&[("pool.yaml", &pool(&[RANGE]))]), Folder::new());
    let builder = Builder::new(folder.path()).state(state.path());
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..50_u32 {
        let mut appliance = builder.start().await;
        let shown: BTreeMap<_, _> = appliance.addresses().await.into_iter().collect();
        for (service, ip) in &known {
            assert_eq!(shown.get(service), Some(ip), "{service} after kill {round}");
        }
        assert_no_address_twice(&shown);
        // Two newcomers in two steps, so that a kill finds the state between any two writes.
        folder.write(&format!("s{round}.yaml"), &load_balancer("shop", &format!("s{round}")));
        tokio::time::sleep(moment(round)).await;
        folder.write(&format!("t{round}.yaml"), &load_balancer("shop", &format!("t{round}")));
        tokio::time::sleep(moment(round * 7 + 3)).await;
        known.extend(appliance.addresses().await.into_iter().filter(|(_, ip)| !ip.is_empty()));
        appliance.process().kill();
    }
    let all = settled(&builder.start().await, 100).await;
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
    let (folder, state) = (Folder::with(&[("pool.yaml", &pool(&[RANGE]))]), Folder::new());
    folder.write("a.yaml", &load_balancer("shop", "a"));
    let first = Builder::new(folder.path()).state(state.path()).start().await;
    let before = settled(&first, 1).await;
    let mut second = Builder::new(folder.path()).state(state.path()).spawn();
    second.ready().await;
    folder.write("b.yaml", &load_balancer("shop", "b"));
    let after = settled(&first, 2).await;
    assert_eq!(after.get("shop/a"), before.get("shop/a"));
    drop(first);
    folder.write("c.yaml", &load_balancer("shop", "c"));
    let taken_over = settled(&second, 3).await;
    assert_no_address_twice(&taken_over);
    for (service, ip) in &after {
        assert_eq!(taken_over.get(service), Some(ip), "{service} after the other took over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_clearly_and_stops_nothing() {
    skip_unless_root!();
    let (folder, state) = (Folder::with(&[("pool.yaml", &pool(&[RANGE]))]), Folder::new());
    let disk = Disk::mount(state.path());
    folder.write("a.yaml", &load_balancer("shop", "a"));
    let builder = Builder::new(folder.path()).state(state.path());
    let mut appliance = builder.start().await;
    let before = settled(&appliance, 1).await;

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
    let after = settled(&appliance, 42).await;
    assert_no_address_twice(&after);
    drop(appliance);
    assert_eq!(settled(&builder.start().await, 42).await, after, "what the disk holds after it had room again");
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
