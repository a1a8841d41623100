//! Kubernetes label selectors in MetalLB's spelling, such as `node-selectors` of a peer.

use super::section::{Field, Findings, Section};
use crate::pool::{LabelSelector, Operator, Requirement};
use crate::suggest;

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

pub(super) fn selectors(list: &Field<'_>, findings: &mut Findings) -> Vec<LabelSelector> {
    let mut selectors = Vec::new();
    for item in list.items(findings) {
        let Some(section) = Section::open(&item, &["match-expressions", "match-labels"], findings) else { continue };
        let mut requirements = labels(&section.field("match-labels"), findings);
        for item in section.field("match-expressions").items(findings) {
            requirements.extend(expression(&item, findings));
        }
        selectors.push(LabelSelector { requirements });
    }
    selectors
}

fn labels(map: &Field<'_>, findings: &mut Findings) -> Vec<Requirement> {
    let mut requirements = Vec::new();
    for (key, field) in map.entries(findings) {
        let Some(value) = field.text_or_empty(findings) else { continue };
        check_key(&field, key, findings);
        check_value(&field, value, findings);
        requirements.push(Requirement { key: key.to_owned(), operator: Operator::In, values: vec![value.to_owned()] });
    }
    requirements
}

fn expression(item: &Field<'_>, findings: &mut Findings) -> Option<Requirement> {
    let section = Section::open(item, &["key", "operator", "values"], findings)?;
    let field = section.field("key");
    let key = field.required("name the label", findings);
    if let Some(key) = key {
        check_key(&field, key, findings);
    }
    let operator = operator(&section.field("operator"), findings);
    let list = section.field("values");
    let mut values = Vec::new();
    for value in list.items(findings) {
        let Some(text) = value.text_or_empty(findings) else { continue };
        check_value(&value, text, findings);
        values.push(text.to_owned());
    }
    match operator? {
        Operator::In | Operator::NotIn if values.is_empty() => {
            findings.at(&list, "In and NotIn need at least one value");
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            findings.at(&list, "Exists and DoesNotExist take no values; remove them");
        }
        _ => {}
    }
    Some(Requirement { key: key?.to_owned(), operator: operator?, values })
}

fn operator(field: &Field<'_>, findings: &mut Findings) -> Option<Operator> {
    match field.required("write In, NotIn, Exists or DoesNotExist", findings)? {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        other => {
            let hint = suggest::hint(other, OPERATORS, "write In, NotIn, Exists or DoesNotExist");
            findings.at(field, format!("unknown operator {other:?}; {hint}"));
            None
        }
    }
}

fn check_key(field: &Field<'_>, key: &str, findings: &mut Findings) {
    if let Err(message) = crate::names::qualified(key) {
        findings.at(field, message);
    }
}

fn check_value(field: &Field<'_>, value: &str, findings: &mut Findings) {
    if let Err(message) = crate::names::label_value(value) {
        findings.at(field, message);
    }
}
