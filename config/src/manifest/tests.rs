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
