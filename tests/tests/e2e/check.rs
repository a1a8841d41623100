//! `ferrogate check`: a folder for each case, with what goes in and what comes out.
//!
//! `tests/cases/<case>/in.yaml` is checked, with the case's folder as working directory; `out.txt` and `out.json` are
//! the answers, `exit` 0 unless one of the problems is an error. After a change on purpose,
//! `FERROGATE_BLESS=1 cargo test -p ferrogate-tests golden` writes the answers anew; read the difference.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ferrogate_tests::binary;
use serde_json::Value;

/// Checks `path` in `folder`.
fn check(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary::path());
    command.arg("check").args(arguments).current_dir(folder);
    command.output().expect("the binary can be run")
}

/// Every case, by name.
fn cases() -> Vec<PathBuf> {
    let folder = binary::checkout().join("tests/cases");
    let entries = folder.read_dir().expect("there are cases");
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    cases
}

/// Compares with what is written, or writes it when told to.
fn assert_written(file: &Path, found: &str) {
    if std::env::var_os("FERROGATE_BLESS").is_some() {
        std::fs::write(file, found).expect("the case can be written");
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    assert!(found == expected, "{}\n--- expected\n{expected}\n--- found\n{found}", file.display());
}

#[test]
fn every_golden_case_is_answered_as_written() {
    assert!(cases().len() >= 5, "the cases are there");
    for case in cases() {
        let text = check(&case, &["in.yaml"]);
        assert_written(&case.join("out.txt"), &String::from_utf8_lossy(&text.stdout));
        let json = check(&case, &["--output", "json", "in.yaml"]);
        let value: Value = serde_json::from_slice(&json.stdout).expect("check speaks JSON");
        let pretty = serde_json::to_string_pretty(&value).expect("JSON can be written");
        assert_written(&case.join("out.json"), &(pretty + "\n"));
        let problems = value["problems"].as_array().expect("a list of problems");
        let failed = problems.iter().any(|problem| problem["severity"] == "error");
        for output in [&text, &json] {
            assert_eq!(output.status.code(), Some(i32::from(failed)), "{}", case.display());
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn standard_input_is_checked_as_well() {
    let text = "address-pools:\n- name: edge\n  protocol: layer2\n  addresses: [192.0.2.20-192.0.2.10]\n";
    let mut child = Command::new(binary::path())
        .args(["check", "--output", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).expect("check speaks JSON");
    assert_eq!(value["problems"][0]["line"], 4, "{value}");
}

#[test]
fn the_quickstart_is_without_fault() {
    let output = check(binary::checkout(), &["--output", "json", "manifests/quickstart"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("check speaks JSON");
    assert_eq!((output.status.code(), &value["problems"]), (Some(0), &Value::Array(Vec::new())));
}
