//! What a file of manifests is read as, whole.

mod properties;
mod rules;

use super::*;

fn parsed(text: &str) -> Parsed {
    parse(&"m.yaml".into(), &text.into())
}

/// Every problem as `line:column field: message`.
fn problems(text: &str) -> Vec<String> {
    let show = |problem: &Problem| {
        let place = problem.place.as_ref().map_or((0, 0), |place| (place.line, place.column));
        let severity = if problem.severity == Severity::Error { "" } else { "warning: " };
        format!("{}:{} {severity}{}: {}", place.0, place.1, problem.field, problem.message)
    };
    parsed(text).problems.iter().map(show).collect()
}

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  ports:
    - name: http
      port: 80
      targetPort: 8080
";

#[test]
fn a_service_is_read_whole() {
    let parsed = parsed(SERVICE);
    assert_eq!(parsed.problems, []);
    let Object::Service(service) = &parsed.documents[0].object else { panic!("{parsed:?}") };
    assert_eq!(service.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port, 80);
    assert_eq!(parsed.documents[0].reference.to_string(), "Service default/web");
}

#[test]
fn all_type_errors_of_an_object_are_reported_at_once() {
    let text = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {a: 8080, b: yes}
spec:
  type: LoadBalancer
  prots: []
  ports:
    - port: \"80\"
      targetPort: [1]
      name: 80
  externalIPs: 192.0.2.1
";
    assert_eq!(
        problems(text),
        [
            "5:15 metadata.labels.a: expected text, found the number 8080; quote it",
            "5:24 metadata.labels.b: expected text, found the boolean yes; quote it",
            "8:3 warning: spec.prots: unknown field \"prots\"; did you mean \"ports\"?",
            "10:13 spec.ports[0].port: expected a number, found the text \"80\"; remove the quotes",
            "11:19 spec.ports[0].targetPort: expected a number or text, found a list",
            "12:13 spec.ports[0].name: expected text, found the number 80; quote it",
            "13:16 spec.externalIPs: expected a list, found the text \"192.0.2.1\"",
        ]
    );
}

fn names(parsed: &Parsed) -> Vec<String> {
    parsed.documents.iter().map(|document| document.reference.to_string()).collect()
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, namespace: x}\n";

fn map(name: &str) -> String {
    MAP.replace("NAME", name)
}

#[test]
fn a_broken_document_costs_only_itself() {
    let text = format!("{}---\na: [\n---\n{}---\n# nothing\n---\n{}...\n", map("a"), map("b"), map("c"));
    let parsed = parsed(&text);
    assert_eq!(names(&parsed), ["ConfigMap x/a", "ConfigMap x/b", "ConfigMap x/c"]);
    assert!(parsed.unreadable && parsed.broken.is_empty());
    assert_eq!(problems(&text).len(), 1);
    assert_eq!(parsed.problems[0].place.as_ref().map(|place| place.line), Some(5));
}

#[test]
fn a_broken_object_is_named_and_the_others_stay() {
    let text = format!("{}data: []\n---\n{}", map("a"), map("b"));
    let parsed = parsed(&text);
    assert_eq!(names(&parsed), ["ConfigMap x/b"]);
    assert_eq!(parsed.broken.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ConfigMap x/a"]);
    assert!(!parsed.unreadable);
    assert_eq!(
        parsed.problems[0].to_string(),
        "error: expected a mapping, found a list\n  --> m.yaml:4:7   ConfigMap x/a, data"
    );
}

#[test]
fn lists_are_flattened_and_their_fields_placed() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: a}
- apiVersion: v1
  kind: ConfigMapList
  items:
  - apiVersion: v1
    kind: ConfigMap
    metadata:
      name: b
- ~
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: c}
  data: {k: 1, k: 2}
";
    let parsed = parsed(text);
    assert_eq!(names(&parsed), ["ConfigMap default/a", "ConfigMap default/b"]);
    let field = FieldPath::of(["metadata", "name"]);
    let place = |index: usize| parsed.documents[index].origin.locate(&field).unwrap();
    assert_eq!((place(0).line, place(0).column), (6, 20));
    assert_eq!((place(1).line, place(1).column), (13, 13));
    assert_eq!(
        problems(text),
        [
            "18:13 data.k: expected text, found the number 1; quote it",
            "18:16 data.k: the key \"k\" stands here a second time; the first is at line 18, column 10",
        ]
    );
    assert_eq!(parsed.broken.len(), 1);
}

#[test]
fn json_is_read_however_it_is_indented() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ConfigMap\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"data\": {\"k\": \"\\t\\u00e4\\/\", \"n\": 7}\n}\n";
    assert_eq!(problems(text), ["5:35 data.n: expected text, found the number 7; quote it"]);
    let parsed = parsed(&text.replace(": 7", ": \"7\""));
    let Object::ConfigMap(map) = &parsed.documents[0].object else { panic!("{parsed:?}") };
    assert_eq!(map.data.as_ref().unwrap()["k"], "\t\u{e4}/");
}

#[test]
fn an_object_written_twice_is_refused_once() {
    let text = format!("{}---\n{}", map("a"), map("a"));
    assert_eq!(problems(&text), ["5:1 : this object is already written at m.yaml:1:1; keep one of the two"]);
    assert_eq!(names(&parsed(&text)), ["ConfigMap x/a"]);
    assert_eq!(problems(&format!("{}---\n{}", map("a"), map("a").replace("x}", "z}"))), Vec::<String>::new());
}

#[test]
fn kinds_of_others_are_ignored_by_name() {
    let text = "\
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: fn, namespace: x}}
---
{apiVersion: v1, kind: Pod, metadata: {generateName: job-}}
---
{apiVersion: config.example/v1, kind: DenyList, metadata: {name: d}}
";
    let parsed = parsed(text);
    assert_eq!(parsed.ignored, ["Deployment default/web", "Service x/fn", "Pod default/job-", "DenyList default/d"]);
    assert!(parsed.documents.is_empty() && parsed.problems.is_empty() && !parsed.unreadable);
}

#[test]
fn what_is_no_object_makes_a_file_unreadable() {
    for (text, message) in [
        ("7", "expected a Kubernetes object, found the number 7"),
        ("- a", "expected a Kubernetes object, found a list"),
        ("a: b", "kind is missing"),
        ("apiVersion: v1\nkind: List\nitems: 7", "expected a list of objects"),
        ("kind: Service\napiVersion: v1\nmetadata: x", "name is missing; every object in a file needs a name"),
    ] {
        let parsed = parsed(text);
        assert!(parsed.unreadable, "{text}");
        assert!(parsed.problems[0].message.contains(message), "{text}: {:?}", parsed.problems);
    }
}

#[test]
fn a_secret_holds_what_both_of_its_maps_say() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  a: |\n    QU\n    E=\n  b: Qg==\nstringData: {b: new}\n";
    let parsed = parsed(text);
    let Object::Secret(secret) = &parsed.documents[0].object else { panic!("{parsed:?}") };
    let data = secret.data.as_ref().unwrap();
    assert_eq!((&*data["a"].0, &*data["b"].0, &secret.string_data), (&b"AA"[..], &b"new"[..], &None));
}

#[test]
fn the_problems_of_one_object_have_an_end() {
    let labels: String = (0..500).fold(String::new(), |text, n| text + &format!("    l{n}: {n}\n"));
    let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels:\n{labels}");
    let problems = problems(&text);
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert!(problems[MAX_PROBLEMS].contains("436 more problems of this object are not shown"), "{problems:?}");
}
