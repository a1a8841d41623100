//! The real binary on an API server.

use std::process::{Command, Stdio};

use ferrogate_tests::binary;
use ferrogate_tests::wait::until;

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_appliance_takes_its_lease_and_gives_it_back() {
    let world = World::new();
    let config = world.server.kubeconfig(world.folder.path()).unwrap();
    let any = "127.0.0.1:0";
    let mut appliance = Command::new(binary::path())
        .args(["run", "--roles", "ingress", "--http", any, "--https", any, "--admin", any, "--kubeconfig"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let holder = async |held: bool| {
        until("the lease", async || {
            let lease = world.server.get("Lease", "metallb-system", "ferrogate-ingress");
            let holder = lease.map(|it| it["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned());
            match holder {
                Ok(holder) if holder.is_empty() != held => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    holder(true).await;
    let process = rustix::process::Pid::from_child(&appliance);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    holder(false).await;
    assert!(appliance.wait().unwrap().success());
}
