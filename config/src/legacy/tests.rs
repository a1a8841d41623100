use super::*;

fn lines(text: &str) -> Vec<String> {
    let legacy = parse_text(&"c.yaml".into(), &text.into());
    let show = |problem: &Problem| {
        let place = problem.place.as_ref().unwrap();
        format!("{}:{} {}: {}", place.line, place.column, problem.field, problem.message)
    };
    legacy.problems.iter().map(show).collect()
}

#[test]
fn every_fault_of_a_configuration_is_reported_with_its_place() {
    let text = "\
address-pools:
- name: default
  protocol: layer2
  addresses:
  - 192.0.2.20-192.0.2.10
  - 192.0.2.1
  - 10.0.0.0/24
  - 10.0.0.7-10.0.0.9
  auto-asign: no
peers:
- my-asn: 1.10
  peer-asn: '5'
  peer-address: 10.0.0.1
  hold-time: 90
  bfdProfile: x
";
    assert_eq!(
        lines(text),
        [
            "5:5 address-pools[0].addresses[0]: address range 192.0.2.20-192.0.2.10 runs backwards; did you mean 192.0.2.10-192.0.2.20?",
            "6:5 address-pools[0].addresses[1]: 192.0.2.1 is a single address, not a range; write it as 192.0.2.1/32",
            "8:5 address-pools[0].addresses[3]: 10.0.0.7-10.0.0.9 overlaps 10.0.0.0-10.0.0.255 of the same pool (address-pools[0].addresses[2]); keep each address once",
            "9:3 address-pools[0].auto-asign: unknown key \"auto-asign\"; did you mean \"auto-assign\"?",
            "11:11 peers[0].my-asn: expected an AS number, found the fraction 1.10; if 1.10 is meant as high.low, write 65546",
            "12:13 peers[0].peer-asn: expected a whole number from 1 to 4294967295, found the text \"5\"; remove the quotes",
            "14:14 peers[0].hold-time: \"90\" is not a duration; write the unit too: 90s",
            "15:3 peers[0].bfdProfile: unknown key \"bfdProfile\"; did you mean \"bfd-profile\"?",
        ]
    );
}
